"""Int8 models that ONNX Runtime runs: a folder of graph, configuration and tokenizer that loads back by one call."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from compression.architecture.checkpoint import count_parameters, quiet_transformers
from compression.architecture.onnx_export import export_onnx
from compression.errors import CheckpointError, UserError
from compression.quantization.format import exchanged
from compression.quantization.int8_modules import Int8Embedding, Int8Linear
from compression.quantization.onnx_graph import put_codes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BACKEND = "onnxruntime"
"""Its name in configurations and folders."""

_FILE = "model.onnx"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def check_installed() -> None:
    """Refuse to begin where packages are missing.

    Raises:
        UserError: names the packages and the command that installs them.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"backend {BACKEND} needs {', '.join(missing)}: pip install 'bertpress[onnx]'")


def save_for_onnxruntime(model: "PreTrainedModel", folder: Path) -> None:
    """Write an int8 model as a folder that ONNX Runtime runs; the tokenizer is saved by the caller.

    Args:
        model: classifier in int8-static or int8-dynamic; layers that are plain stay so.
        folder: folder to write into, created when absent.

    Raises:
        UserError: packages are missing.
    """
    check_installed()
    import onnx

    layers: dict[str, nn.Module] = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, Int8Linear | Int8Embedding)
    }
    plain = {layer: _plain(layer, number) for number, layer in enumerate(dict.fromkeys(layers.values()))}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _FILE
    with exchanged(model, plain):
        graph = onnx.load(export_onnx(model, path))
    put_codes(graph, layers)
    # What the exporter notes of its own source files is no part of the model.
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    path.write_bytes(graph.SerializeToString(deterministic=True))
    declared = json.loads(model.config.to_json_string())
    declared["architectures"] = [type(model).__name__]
    declared["quantization_config"] |= {
        "backend": BACKEND,
        "parameters": count_parameters(model),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    text = json.dumps(declared, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def load_onnxruntime(folder: Path, quantization: dict[str, Any]) -> "OnnxClassifier":
    """Load a folder of `save_for_onnxruntime`.

    Args:
        folder: model folder.
        quantization: what its `config.json` says of the quantization.

    Returns:
        The model.

    Raises:
        CheckpointError: the graph is missing or damaged.
        UserError: packages are missing.
    """
    check_installed()
    path = folder / _FILE
    if not path.is_file():
        raise CheckpointError(f"{folder} lacks {_FILE}: no such file")
    if hashlib.sha256(path.read_bytes()).hexdigest() != quantization.get("sha256"):
        raise CheckpointError(f"{path} is truncated or damaged: its content is not what config.json says")
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = OnnxClassifier(path, config, parameters=int(quantization["parameters"]))
        model.session(torch.get_num_threads())
    except Exception as error:  # ONNX Runtime and transformers raise classes of their own
        raise CheckpointError(f"{folder} cannot be loaded by ONNX Runtime: {error}") from error
    return model.eval()


class OnnxClassifier(nn.Module):
    """A classifier that ONNX Runtime computes on the CPU, to be called like any other.

    It runs on as many threads as torch has at the moment.

    Args:
        path: the graph.
        config: configuration of the model that it was.
        parameters: parameter count of that model.
    """

    def __init__(self, path: Path, config: Any, *, parameters: int) -> None:
        super().__init__()
        self.config = config
        self.uncounted_parameters = parameters
        self.anchor = nn.Parameter(torch.empty(0), requires_grad=False)  # says where inputs are to be put
        self._path = path
        self._sessions: dict[int, Any] = {}

    @property
    def kernel(self) -> str:
        """What multiplies, for the record of a measurement."""
        import onnxruntime

        return f"{BACKEND}-{onnxruntime.__version__}"

    def session(self, threads: int) -> Any:
        """ONNX Runtime's session on a number of threads, kept for the next call."""
        import onnxruntime

        if threads not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            self._sessions = {
                threads: onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
            }
        return self._sessions[threads]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Logits of (batch, length) word pieces, as transformers gives them."""
        session = self.session(torch.get_num_threads())
        given = {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids) if attention_mask is None else attention_mask,
            "token_type_ids": torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids,
        }
        feed = {each.name: given[each.name].cpu().numpy().astype(np.int64) for each in session.get_inputs()}
        logits = torch.from_numpy(session.run(["logits"], feed)[0])
        return SequenceClassifierOutput(logits=logits.to(input_ids.device))


def _plain(layer: nn.Module, number: int) -> nn.Module:
    """A plain layer of the same shape, for the trace; its weight never reaches the file.

    Layers of one input and equal weights would become one node: weights are drawn, from another seed for each layer.
    """
    if not isinstance(layer, Int8Linear | Int8Embedding):
        raise TypeError(f"{type(layer).__name__} has no plain form")
    weight = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(number))
    if isinstance(layer, Int8Embedding):
        return nn.Embedding(layer.num_embeddings, layer.embedding_dim, _weight=weight)
    made = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        made.bias = layer.bias
    return made

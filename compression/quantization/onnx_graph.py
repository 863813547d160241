"""ONNX graphs of int8 models: the products and look-ups of a traced model, rewritten on the codes of its layers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compression.quantization.int8_modules import Int8Embedding, Int8Linear
from compression.quantization.int8_static import Int8StaticLinear

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter notes which module a node comes from
_ROOT = "model."  # the traced model's name within what `export_onnx` traces


def put_codes(graph: "ModelProto", layers: Mapping[str, nn.Module]) -> None:
    """Rewrite a graph so that it computes with the codes of int8 layers.

    A layer in int8-static becomes QuantizeLinear and DequantizeLinear around its product, which runtimes fuse into one
    of integers; one in int8-dynamic DynamicQuantizeLinear and MatMulInteger, whose activations have one scale a batch;
    a table a look-up of codes and of their rows' scales.

    Args:
        graph: graph of `export_onnx`, of a model with plain layers in the place of these; changed in place.
        layers: name within the whole model -> int8 layer.

    Raises:
        ValueError: a layer has no node, so that the graph is not that model's.
    """
    rewriting = _Rewriting(graph)
    found = set()
    for node in graph.graph.node:
        layer = _layer_of(node, layers)
        if layer is None:
            rewriting.keep(node)
            continue
        found.add(id(layer))
        rewriting.rewrite(node, layer)
    missing = [name for name, layer in layers.items() if id(layer) not in found]
    if missing:
        raise ValueError(f"the graph has no node of {missing[0]}")
    rewriting.finish()


def _layer_of(node: "NodeProto", layers: Mapping[str, nn.Module]) -> nn.Module | None:
    """The int8 layer whose product or look-up a node is."""
    import ast

    if node.op_type not in ("MatMul", "Gemm", "Gather"):
        return None
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    names = [name.removeprefix(_ROOT) for name in ast.literal_eval(scopes)]
    layer = next((layers[name] for name in reversed(names) if name in layers), None)
    return layer if isinstance(layer, Int8Embedding) == (node.op_type == "Gather") else None


class _Rewriting:
    """The new nodes and tensors of a graph."""

    def __init__(self, model: "ModelProto") -> None:
        self.graph = model.graph
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, NDArray[np.generic]] = {}
        self.made: set[str] = set()
        self.numbers: dict[int, int] = {}

    def keep(self, node: "NodeProto") -> None:
        self.nodes.append(node)

    def rewrite(self, node: "NodeProto", layer: nn.Module) -> None:
        name = f"int8_{self.numbers.setdefault(id(layer), len(self.numbers))}"
        if isinstance(layer, Int8Embedding):
            self._table(node, layer, name)
        elif isinstance(layer, Int8StaticLinear):
            self._static(node, layer, name)
        elif isinstance(layer, Int8Linear):
            self._dynamic(node, layer, name)

    def finish(self) -> None:
        """Put nodes and tensors into the graph, and take out what nothing uses any more."""
        from onnx import numpy_helper

        nodes = self.nodes
        while True:
            used = {name for node in nodes for name in node.input} | {each.name for each in self.graph.output}
            alive = [node for node in nodes if any(name in used for name in node.output)]
            if len(alive) == len(nodes):
                break
            nodes = alive
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        kept += [numpy_helper.from_array(array, name) for name, array in self.tensors.items() if name in used]
        for field, values in (("node", nodes), ("initializer", kept)):
            self.graph.ClearField(field)
            getattr(self.graph, field).extend(values)
        # Shapes and types of tensors that are gone, or are integers now.
        self.graph.ClearField("value_info")

    def _add(self, kind: str, inputs: list[str], outputs: list[str], **attributes: int) -> None:
        from onnx import helper

        if outputs[0] not in self.made:  # several layers may read one coded input
            self.made.add(outputs[0])
            self.nodes.append(helper.make_node(kind, inputs, outputs, name=f"node_{outputs[0]}", **attributes))

    def _table(self, node: "NodeProto", table: Int8Embedding, name: str) -> None:
        self.tensors[f"{name}_codes"] = table.weight.detach().cpu().numpy()
        self.tensors[f"{name}_scales"] = table.weight_scale.detach().cpu().numpy()[:, None]
        output, rows = node.output[0], node.input[1]
        self._add("Gather", [f"{name}_codes", rows], [f"{output}_codes"])
        self._add("Gather", [f"{name}_scales", rows], [f"{output}_scales"])
        self._add("Cast", [f"{output}_codes"], [f"{output}_numbers"], to=1)
        self._add("Mul", [f"{output}_numbers", f"{output}_scales"], [output])

    def _static(self, node: "NodeProto", layer: Int8StaticLinear, name: str) -> None:
        given, product = node.input[0], self._product_of(node)
        scale, zero_point = layer.activation_scale.cpu().numpy(), layer.activation_zero_point.cpu().numpy()
        coded = f"{given}_coded_{scale.tobytes().hex()}_{int(zero_point)}"
        self._weight(layer, name)
        self.tensors[f"{coded}_scale"], self.tensors[f"{coded}_zero"] = scale, zero_point.astype(np.uint8)
        self._add("QuantizeLinear", [given, f"{coded}_scale", f"{coded}_zero"], [coded])
        self._add("DequantizeLinear", [coded, f"{coded}_scale", f"{coded}_zero"], [f"{coded}_back"])
        self._add("DequantizeLinear", [f"{name}_codes", f"{name}_scales"], [f"{name}_weight"], axis=1)
        self._add("MatMul", [f"{coded}_back", f"{name}_weight"], [product])
        self._bias(node, layer, name, product)

    def _dynamic(self, node: "NodeProto", layer: Int8Linear, name: str) -> None:
        given, product = node.input[0], self._product_of(node)
        coded = f"{given}_coded"
        self._weight(layer, name)
        self._add("DynamicQuantizeLinear", [given], [coded, f"{coded}_scale", f"{coded}_zero"])
        self._add("MatMulInteger", [coded, f"{name}_codes", f"{coded}_zero"], [f"{product}_integers"])
        self._add("Cast", [f"{product}_integers"], [f"{product}_numbers"], to=1)
        self._add("Mul", [f"{coded}_scale", f"{name}_scales"], [f"{product}_scales"])
        self._add("Mul", [f"{product}_numbers", f"{product}_scales"], [product])
        self._bias(node, layer, name, product)

    def _weight(self, layer: Int8Linear, name: str) -> None:
        self.tensors[f"{name}_codes"] = np.ascontiguousarray(layer.weight.detach().cpu().numpy().T)
        self.tensors[f"{name}_scales"] = layer.weight_scale.detach().cpu().numpy()

    def _product_of(self, node: "NodeProto") -> str:
        """Name of the product: a Gemm adds the bias itself, after a MatMul there is a node that does."""
        return f"{node.output[0]}_product" if self._adds_bias(node) else str(node.output[0])

    def _bias(self, node: "NodeProto", layer: Int8Linear, name: str, product: str) -> None:
        if self._adds_bias(node) and layer.bias is not None:
            self.tensors[f"{name}_bias"] = layer.bias.detach().cpu().numpy()
            self._add("Add", [product, f"{name}_bias"], [node.output[0]])

    @staticmethod
    def _adds_bias(node: "NodeProto") -> bool:
        return node.op_type == "Gemm" and len(node.input) == 3

"""`bertpress params`: what an encoder consists of, before any weight is allocated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from compression.architecture.counts import Head, multiply_accumulates, parameters_by_part
from compression.architecture.description import ShapeDescription
from compression.architecture.presets import PRESETS
from compression.architecture.shape import EncoderShape, shape_of
from compression.data.config import TaskConfig
from compression.data.glue import GLUE_TASKS
from compression.errors import UserError, did_you_mean
from flows.project import open_project
from flows.shapes import declared_config, source_shape
from flows.study_errors import StudyFileError, describe
from flows.validation import check
from flows.yaml_document import read_document
from tasks.model_source import resolve_model
from tasks.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

_FILE_ENDINGS = (".yaml", ".yml", ".json")
_HEADS: Mapping[str, Head] = {
    "ForSequenceClassification": "classifier",
    "ForMaskedLM": "masked_lm",
    "ForQuestionAnswering": "question_answering",
    "LMHeadModel": "masked_lm",
    "Model": "none",
}
_WITHOUT_POOLER = ("masked_lm", "question_answering")


@dataclass(frozen=True)
class Model:
    """What is counted.

    Attributes:
        name: what it is called.
        shape: the encoder.
        head: its task head.
        labels: outputs of a classifier.
        pooler: whether there is a pooler.
        note: what is not counted.
    """

    name: str
    shape: EncoderShape
    head: Head = "none"
    labels: int = 2
    pooler: bool = True
    note: str = ""

    def changed(self, *, head: str | None, labels: int | None, pooler: bool | None) -> "Model":
        """The model with another head.

        Args:
            head: task head; None keeps it.
            labels: outputs of a classifier; None keeps them.
            pooler: whether there is a pooler; None keeps it, or follows from a head that is given.

        Returns:
            The model.

        Raises:
            UserError: an unknown head, or labels of something that is no classifier.
        """
        model = self
        if head is not None:
            if head not in get_args(Head):
                raise UserError(describe("unknown head", head, get_args(Head)))
            kept = self.pooler if head == "none" else head not in _WITHOUT_POOLER
            known: Head = next(name for name in get_args(Head) if name == head)
            model = replace(model, head=known, pooler=kept, note="")
        if labels is not None and model.head != "classifier":
            raise UserError(
                f"--labels {labels} is for a classifier, and the head is {model.head}; add --head classifier"
            )
        return replace(
            model,
            labels=model.labels if labels is None else labels,
            pooler=model.pooler if pooler is None else pooler,
        )


def find_model(target: str, variant: str | None, settings: Settings) -> Model:
    """What a target on the command line means.

    Args:
        target: a preset; a YAML or JSON file that describes a shape; a model's folder, `package:NAME/FOLDER` or name on
            the hub, if it is on this machine; or, with a variant, a study.
        variant: name of a variant of the study.
        settings: this machine.

    Returns:
        The model. A folder's head is the one it was saved with; a variant's is that of its task with most labels, where
        the study says how many that are; others have none.

    Raises:
        UserError: the target is none of these, or its shape is not known.
    """
    if variant is not None:
        return _variant(Path(target), variant, settings)
    if target in PRESETS:
        return Model(target, PRESETS[target].shape())
    path = Path(target)
    if path.is_file() or path.suffix in _FILE_ENDINGS:
        return _file(path)
    if path.is_dir():
        return _declared(target, declared_config(path))
    folder = None
    try:
        folder = resolve_model(target, None, (), download=False)
    except UserError:
        if target.startswith("package:"):
            raise
    if folder is None:
        near = did_you_mean(target, PRESETS)
        raise UserError(f"{target!r} is no preset, file or folder, and no model of the hub on this machine{near}")
    return _declared(target, declared_config(folder))


def _declared(name: str, declared: Mapping[str, Any]) -> Model:
    """A model as its `config.json` declares it."""
    architecture = next(iter(declared.get("architectures") or ()), "Model")
    ending = next((known for known in _HEADS if architecture.endswith(known)), None)
    head = "none" if ending is None else _HEADS[ending]
    without = head in _WITHOUT_POOLER or (declared.get("model_type") == "distilbert" and head == "none")
    labels = len(declared.get("id2label") or ()) or declared.get("num_labels") or 2
    note = "" if ending is not None else f"The head of a {architecture} is not counted."
    return Model(name, shape_of(declared), head, labels, not without, note)


def _file(path: Path) -> Model:
    document = read_document(path)
    declared = document.data
    if "variants" in declared:
        names = ", ".join(declared["variants"] or ())
        raise UserError(f"{path} is a study: name one of its variants too, bertpress params {path} VARIANT ({names})")
    if "model_type" in declared:
        return _declared(str(path), declared)
    if "attention_blocks" in declared:
        shape, problems = check(EncoderShape, declared, document.mark)
        if shape is not None:
            return Model(str(path), shape)
    else:
        described, problems = check(ShapeDescription, declared, document.mark)
        if described is not None:
            return Model(str(path), described.encoder(), pooler=described.pooler)
    raise StudyFileError(path, problems.values())


def _variant(study: Path, variant: str, settings: Settings) -> Model:
    project = open_project(study, settings, only=[variant])
    names = [found.name for found in project.loaded.variants]
    if len(names) > 1:
        raise UserError(
            f"{variant!r} stands for {len(names)} variants of {study}: {', '.join(names)}; name one of them"
        )
    shape = project.shapes.get(project.graph.cells[0].chain[-1])
    if shape is None:
        teacher = project.loaded.study.teacher
        source_shape(teacher, project.roots)  # says why, unless the model is merely not here
        raise UserError(f"the shape of {variant} is not known before {teacher.model} has been downloaded")
    outputs = [_outputs(task) for task in project.loaded.study.tasks]
    known = [number for number in outputs if number is not None]
    if len(known) < len(outputs):
        note = "Without its classifier: the study does not say how many labels there are; --head classifier --labels N."
        return Model(f"{study} {names[0]}", shape, note=note)
    return Model(f"{study} {names[0]}", shape, "classifier", max(known))


def _outputs(task: TaskConfig) -> int | None:
    """Outputs of a task's classifier, as far as its configuration tells."""
    if task.glue is not None:
        return max(1, len(GLUE_TASKS[task.glue].labels))
    if task.problem == "regression":
        return 1
    return None if task.labels is None else len(task.labels)


def parameter_record(model: Model, length: int) -> dict[str, Any]:
    """Parameters by part and multiply-accumulates, as JSON values.

    Args:
        model: what is counted.
        length: word pieces of the sequence that multiply-accumulates are counted for.

    Returns:
        Name, head, parts, totals and the whole shape.

    Raises:
        UserError: the sequence is longer than the encoder takes.
    """
    shape = model.shape
    if length > shape.max_position_embeddings:
        raise UserError(f"--length {length}: the encoder takes {shape.max_position_embeddings} word pieces at most")
    parts = parameters_by_part(shape, pooler=model.pooler, head=model.head, labels=model.labels)
    operations = multiply_accumulates(shape, length, pooler=model.pooler)
    return {
        "name": model.name,
        "head": model.head,
        "labels": model.labels if model.head == "classifier" else None,
        "pooler": model.pooler,
        "parts": parts,
        "parameters": sum(parts.values()),
        "length": length,
        "multiply_accumulates": operations,
        "shape": shape.model_dump(mode="json"),
    }


def show_parameters(console: "Console", model: Model, record: Mapping[str, Any]) -> None:
    """Print parameters by part.

    Args:
        console: where to.
        model: what is counted.
        record: what `parameter_record` gives.
    """
    from rich.table import Table

    console.print(model.name, style="bold", markup=False)
    console.print(f"{summary(model.shape)}\n", markup=False)
    grid = Table("part", box=None, pad_edge=False, show_footer=True)
    grid.columns[0].footer = "total"
    total = record["parameters"]
    grid.add_column("parameters", justify="right", footer=f"{total:,}")
    grid.add_column("share", justify="right", footer=f"{total / 1e6:.2f}M")
    for part, count in record["parts"].items():
        grid.add_row(part, f"{count:,}", f"{100 * count / total:.1f} %")
    console.print(grid)
    operations = record["multiply_accumulates"]
    text = f"{operations:,} multiply-accumulates at {record['length']} word pieces"
    console.print(f"\n{text} ({2 * operations / 1e9:.3g} GFLOPs), without the head", markup=False)
    if model.note:
        console.print(model.note, style="yellow", markup=False)


def summary(shape: EncoderShape) -> str:
    """A shape in a line.

    Args:
        shape: the shape.

    Returns:
        Its sizes; a range where blocks differ, and the number of blocks where layers share them.

    Example:
        >>> summary(PRESETS["albert-base"].shape()).split("; ")[0]
        '12 layers of width 768 (1 attention block, 1 feed-forward block)'
    """
    kinds = {"attention": shape.attention_heads, "feed-forward": shape.intermediate_sizes}
    shared = [
        f"{len(blocks)} {kind} block{'s' if len(blocks) > 1 else ''}"
        for kind, blocks in kinds.items()
        if len(blocks) < shape.layers
    ]
    return "; ".join(
        [
            f"{shape.layers} layers of width {shape.hidden_size:,}" + (f" ({', '.join(shared)})" if shared else ""),
            f"{_range(shape.attention_heads)} heads of {shape.head_size}",
            f"feed-forward {_range(shape.intermediate_sizes)}",
            *([f"embeddings {shape.embedding_size:,}"] if shape.embedding_projection != "none" else []),
            *([f"{len(shape.ranks)} linear maps of low rank"] if shape.ranks else []),
        ]
    )


def _range(sizes: Sequence[int]) -> str:
    least, most = min(sizes, default=0), max(sizes, default=0)
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"

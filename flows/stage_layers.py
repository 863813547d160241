"""A stage's configuration as layers, the later over the earlier, and where each value of the result was written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from flows.model_fields import alternatives
from flows.study_errors import DocumentPath


@dataclass(frozen=True, eq=False)
class Layer:
    """Values given in one place of a study file.

    Attributes:
        value: a mapping of fields, or the value of the one field that `prefix` names.
        where: place of the value in the document.
        prefix: field, and fields within it, that the value belongs to.
    """

    value: Any
    where: DocumentPath
    prefix: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """The layer as a mapping of the stage's fields."""
        value = self.value
        for part in reversed(self.prefix):
            value = {part: value}
        return dict(value)


@dataclass(frozen=True)
class Merged:
    """The result of merging layers.

    Attributes:
        fields: what the study gives; fields left to the model's defaults are absent.
        sources: path of a field, or of a mapping -> the layer that touched it last.
        entry: where the stage itself stands.
    """

    fields: dict[str, Any]
    sources: Mapping[DocumentPath, Layer]
    entry: DocumentPath

    def written_at(self, place: DocumentPath) -> DocumentPath:
        """Where in the document the value of a field was written, or what is nearest around it.

        Args:
            place: path of a field; positions in its list, too. Empty for the configuration as a whole.

        Returns:
            Path in the document; parts of it that the document does not spell out are at its end.
        """
        for length in range(len(place), 0, -1):
            layer = self.sources.get(place[:length])
            if layer is not None:
                inside = place[len(layer.prefix) :] if length >= len(layer.prefix) else ()
                return (*layer.where, *inside)
        # A field that nobody gave is missing where the stage stands; a combination is wrong since its last field.
        return self.entry if place else self.sources[()].where

    def shows(self, layer: Layer) -> bool:
        """Whether anything of a layer is left, not replaced by a later one."""
        return any(source is layer for source in self.sources.values())


def merge(model: type[BaseModel], layers: Iterable[Layer]) -> Merged:
    """Merge layers, mapping into mapping.

    A mapping is replaced, not joined, where the new one chooses another of the model's alternatives: a student given by
    `preset` does not keep the `layers` of a default.

    Args:
        model: the stage's configuration.
        layers: from the weakest to the strongest.

    Returns:
        The merged fields with their sources.

    Example:
        >>> from compression.training.finetune_config import FinetuneConfig
        >>> default = Layer({"epochs": 3, "student": {"layers": [0, 2]}}, ("defaults", "finetune"))
        >>> chosen = Layer("bert-tiny", ("variants", "small", "set", "finetune.student.preset"), ("student", "preset"))
        >>> merge(FinetuneConfig, [default, chosen]).fields
        {'epochs': 3, 'student': {'preset': 'bert-tiny'}}
    """
    fields: dict[str, Any] = {}
    sources: dict[DocumentPath, Layer] = {}
    entry: DocumentPath = ()
    for layer in layers:
        sources[()] = layer
        entry = entry if layer.prefix else layer.where
        _join(fields, layer.fields(), (), layer, model, sources)
    return Merged(fields, sources, entry)


def _join(
    base: dict[str, Any],
    over: dict[str, Any],
    path: DocumentPath,
    layer: Layer,
    model: type[BaseModel],
    sources: dict[DocumentPath, Layer],
) -> None:
    exclusive = alternatives(model, path)
    if any(name in exclusive and name not in base for name in over) and exclusive & base.keys():
        base.clear()
        _forget(sources, path)
    for name, value in over.items():
        inner = (*path, name)
        if not (isinstance(value, dict) and isinstance(base.get(name), dict)):
            base[name] = {} if isinstance(value, dict) else value
            _forget(sources, inner)
        sources[inner] = layer
        if isinstance(value, dict):
            _join(base[name], value, inner, layer, model, sources)


def _forget(sources: dict[DocumentPath, Layer], path: DocumentPath) -> None:
    """Drop what lies below a path that was replaced."""
    for known in [known for known in sources if len(known) > len(path) and known[: len(path)] == path]:
        del sources[known]

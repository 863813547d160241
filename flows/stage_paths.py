"""Paths of `set` and `matrix`: which fields of which stages of a chain they mean."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.model_fields import known_fields, possible_types
from flows.study_errors import UnplacedError, describe
from tasks.stages.base import Stage

_PATH = re.compile(r"(?P<kind>\*|[A-Za-z_][A-Za-z0-9_]*)(\[(?P<index>[0-9]{1,4})\])?\.(?P<fields>[^.]+(\.[^.]+)*)")


@dataclass(frozen=True)
class StagePath:
    """A path taken apart.

    Attributes:
        text: the path as written.
        kind: kind of stage, or `*`.
        index: which of several stages of the kind, counted from 0.
        fields: field, and fields within it.
    """

    text: str
    kind: str
    index: int | None
    fields: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "StagePath":
        """Take a path apart.

        Args:
            text: `KIND.FIELD`, `KIND[1].FIELD` or `*.FIELD`.

        Returns:
            The path.

        Raises:
            UnplacedError: it has another form.

        Example:
            >>> StagePath.parse("finetune[1].student.layers").fields
            ('student', 'layers')
        """
        match = _PATH.fullmatch(text)
        if match is None or (match["kind"] == "*" and match["index"] is not None):
            raise UnplacedError(describe("not a path", text, ["KIND.FIELD", "KIND[0].FIELD", "*.FIELD"]))
        index = None if match["index"] is None else int(match["index"])
        return cls(text, match["kind"], index, tuple(match["fields"].split(".")))

    def targets(self, kinds: Sequence[str], registry: Mapping[str, Stage]) -> list[int]:
        """Find the stages of a chain that the path means.

        Args:
            kinds: kinds of the chain's stages, all in the registry.
            registry: stages by kind.

        Returns:
            Positions in the chain, at least one.

        Raises:
            UnplacedError: no such stage or field, or several stages where one is meant.
        """
        if self.kind == "*":
            return self._all(kinds, registry)
        positions = [position for position, kind in enumerate(kinds) if kind == self.kind]
        if not positions:
            raise UnplacedError(describe("the chain has no such stage", self.kind, dict.fromkeys(kinds)))
        self._check_field(registry[self.kind])
        several = [f"{self.kind}[{index}]" for index in range(len(positions))]
        if self.index is None and len(positions) > 1:
            raise UnplacedError(describe("the chain has several such stages", self.kind, several))
        if self.index is not None and self.index >= len(positions):
            raise UnplacedError(describe("the chain has no such stage", f"{self.kind}[{self.index}]", several))
        return [positions[self.index or 0]]

    def _all(self, kinds: Sequence[str], registry: Mapping[str, Stage]) -> list[int]:
        models = [registry[kind].config_model for kind in kinds]
        positions = [position for position, model in enumerate(models) if possible_types(model, self.fields)]
        if not positions:
            allowed = sorted({name for model in models for name in known_fields(model)})
            raise UnplacedError(describe("no stage of the chain has this field", ".".join(self.fields), allowed))
        return positions

    def _check_field(self, stage: Stage) -> None:
        for depth, field in enumerate(self.fields):
            if not possible_types(stage.config_model, self.fields[: depth + 1]):
                inside = "".join(f".{name}" for name in self.fields[:depth])
                allowed = known_fields(stage.config_model, self.fields[:depth])
                raise UnplacedError(describe(f"`{self.kind}{inside}` has no such field", field, allowed))

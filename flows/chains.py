"""Variants as chains of stages: declared, derived from one another, spread over a matrix."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flows.chain_rules import LAST_KIND
from flows.spec import StageEntry, VariantConfig, declared_name
from flows.stage_layers import Layer, merge
from flows.stage_paths import StagePath
from flows.study_errors import DocumentPath, UnplacedError, describe
from tasks.stages.base import Stage

_MOST_VARIANTS = 10_000

Report = Callable[[DocumentPath, str], None]


@dataclass(frozen=True)
class Draft:
    """A stage before its configuration is resolved.

    Attributes:
        kind: kind of stage.
        where: its place in the study.
        layers: what the study says about it, the stronger later.
    """

    kind: str
    where: DocumentPath
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Axis:
    """One value of one factor of a matrix."""

    path: StagePath
    label: str
    layer: Layer


@dataclass(frozen=True)
class Chain:
    """A chain, which always ends in `evaluate`, and the combination of factors that it stands for."""

    drafts: tuple[Draft, ...]
    axes: tuple[Axis, ...] = ()

    @property
    def kinds(self) -> list[str]:
        """Kinds of the stages."""
        return [draft.kind for draft in self.drafts]

    @property
    def suffix(self) -> str:
        """The combination as the end of a variant's name: `[rank=64,mode=all]`."""
        last = Counter(axis.path.fields[-1] for axis in self.axes)
        names = [axis.path.fields[-1] if last[axis.path.fields[-1]] == 1 else axis.path.text for axis in self.axes]
        pairs = ",".join(f"{name}={axis.label}" for name, axis in zip(names, self.axes, strict=True))
        return f"[{pairs}]" if pairs else ""

    def with_layer(self, positions: Iterable[int], layer: Layer) -> "Chain":
        """The chain with a layer on top of some of its stages."""
        drafts = list(self.drafts)
        for position in positions:
            drafts[position] = replace(drafts[position], layers=(*drafts[position].layers, layer))
        return replace(self, drafts=tuple(drafts))

    def visible(self, layers: Iterable[Layer], registry: Mapping[str, Stage]) -> list[Layer]:
        """Those of some layers that later layers leave something of."""
        merged = [merge(registry[draft.kind].config_model, draft.layers) for draft in self.drafts]
        return [layer for layer in layers if any(stage.shows(layer) for stage in merged)]


def label(value: object) -> str:
    """A value of a matrix as part of a name.

    Example:
        >>> label(64), label(1.0), label(True), label([0, 2]), label({"preset": "bert-tiny"})
        ('64', '1', 'true', '0+2', 'preset:bert-tiny')
    """
    if isinstance(value, dict):
        return "+".join(f"{label(name)}:{label(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return "+".join(label(inner) for inner in value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return re.sub(r"[^A-Za-z0-9._+:-]", "_", str(value))


class ChainBuilder:
    """Builds the chains of all variants.

    Args:
        variants: the declared variants that are well-formed.
        declared: names of all declared variants.
        registry: stages by kind.
        report: takes the place in the study and the text of a problem.
    """

    def __init__(
        self,
        variants: Mapping[str, VariantConfig],
        declared: Sequence[str],
        registry: Mapping[str, Stage],
        report: Report,
    ) -> None:
        self._variants, self._declared = variants, declared
        self._registry, self._take = registry, report
        self._count = 0
        self._reported = 0

    def build(self) -> dict[str, list[Chain]]:
        """Build them.

        Returns:
            Declared name -> chains, one a combination of the matrix. Variants come after the one they derive from; one
            with a problem, and whatever derives from it, is absent.
        """
        chains: dict[str, list[Chain]] = {}
        for name in self._order():
            before = self._reported
            try:
                built = self._derive(name, chains)
            except _BrokenVariantError:
                continue
            if self._reported == before:
                chains[name] = built
        return chains

    def _report(self, where: DocumentPath, text: str) -> None:
        self._reported += 1
        self._take(where, text)

    def _order(self) -> list[str]:
        """Names so that what a variant derives from comes first; those in a cycle are reported and left out."""
        order: dict[str, None] = {}
        for start in self._variants:
            name = start
            line: dict[str, None] = {}
            while name in self._variants and name not in order and name not in line:
                line[name] = None
                name = declared_name(self._variants[name].from_ or "")
            if name in line:
                members = list(line)[list(line).index(name) :]
                self._report(("variants", name, "from"), f"derives from itself: {' → '.join([*members, name])}")
            order.update(dict.fromkeys(reversed(line)))
        return list(order)

    def _derive(self, name: str, chains: Mapping[str, list[Chain]]) -> list[Chain]:
        variant = self._variants[name]
        edited = [self._edited(name, variant, base) for base in self._bases(name, variant, chains)]
        wanted = len(edited) * math.prod(len(values) for values in variant.matrix.values())
        if self._count + wanted > _MOST_VARIANTS:
            text = f"makes {wanted:,} variants; a study has at most {_MOST_VARIANTS:,} in all"
            raise self._broken(("variants", name, "matrix"), text)
        self._count += wanted
        spread: dict[str, Chain] = {}
        for chain in edited:
            for combination in self._spread(name, variant, chain):
                spread.setdefault(combination.suffix, combination)
        return list(spread.values())

    def _bases(self, name: str, variant: VariantConfig, chains: Mapping[str, list[Chain]]) -> list[Chain]:
        """The declared chain, or those derived from."""
        if variant.from_ is None:
            where: DocumentPath = ("variants", name, "stages")
            return [Chain(self._completed(self._entries(variant.stages or (), where), where))]
        origin, place = declared_name(variant.from_), ("variants", name, "from")
        if origin not in self._declared:
            raise self._broken(place, describe("no such variant", variant.from_, self._declared))
        found = chains.get(origin)
        if found is None:  # it has problems of its own, which are reported there
            raise _BrokenVariantError
        combinations = {origin + chain.suffix: chain for chain in found}
        if variant.from_ == origin:
            return found
        if variant.from_ not in combinations:
            raise self._broken(place, describe("no such combination", variant.from_, combinations))
        return [replace(combinations[variant.from_], axes=())]

    def _entries(self, entries: Sequence[StageEntry], where: DocumentPath) -> tuple[Draft, ...]:
        drafts = []
        for index, entry in enumerate(entries):
            kind, config = next(iter(entry.items()))
            place = (*where, index, kind)
            if kind not in self._registry:
                self._report(place, describe("unknown stage", kind, self._registry))
            drafts.append(Draft(kind, place, (Layer(config, place),)))
        if any(draft.kind not in self._registry for draft in drafts):
            raise _BrokenVariantError
        return tuple(drafts)

    def _completed(self, drafts: tuple[Draft, ...], where: DocumentPath) -> tuple[Draft, ...]:
        if drafts and drafts[-1].kind == LAST_KIND:
            return drafts
        return (*drafts, Draft(LAST_KIND, where, (Layer({}, where),)))

    def _edited(self, name: str, variant: VariantConfig, chain: Chain) -> Chain:
        """The chain after `without`, `then` and `set`."""
        where: DocumentPath = ("variants", name)
        for index, kind in enumerate(variant.without):
            if kind not in chain.kinds:
                text = describe("the chain has no such stage", kind, dict.fromkeys(chain.kinds))
                self._report((*where, "without", index), text)
        drafts = tuple(draft for draft in chain.drafts if draft.kind not in variant.without)
        drafts = self._completed(drafts, (*where, "without"))
        added = self._entries(variant.then, (*where, "then"))
        if added:
            ends = added[-1].kind == LAST_KIND
            drafts = (*drafts[:-1], *added) if ends else (*drafts[:-1], *added, drafts[-1])
        chain = replace(chain, drafts=drafts)
        for path in self._paths((*where, "set"), variant.set_):
            layer = Layer(variant.set_[path.text], (*where, "set", path.text), path.fields)
            chain = chain.with_layer(self._targets(path, chain, layer.where), layer)
        return chain

    def _paths(self, where: DocumentPath, texts: Iterable[str]) -> list[StagePath]:
        """Paths in the order of their application: `*` before a kind, a mapping before a field within it."""
        paths = []
        for text in texts:
            try:
                paths.append(StagePath.parse(text))
            except UnplacedError as error:
                self._report((*where, text), str(error))
        return sorted(paths, key=lambda path: (path.kind != "*", len(path.fields)))

    def _targets(self, path: StagePath, chain: Chain, where: DocumentPath) -> list[int]:
        try:
            return path.targets(chain.kinds, self._registry)
        except UnplacedError as error:
            self._report(where, str(error))
            return []

    def _spread(self, name: str, variant: VariantConfig, chain: Chain) -> list[Chain]:
        """One chain a combination of the matrix, named by the factors that still show."""
        where: DocumentPath = ("variants", name, "matrix")
        paths = self._paths(where, variant.matrix)
        targets = {path: self._targets(path, chain, (*where, path.text)) for path in paths}
        if not all(targets.values()):
            raise _BrokenVariantError
        own = [
            layer for draft in chain.drafts for layer in draft.layers if layer.where[:3] == ("variants", name, "set")
        ]
        shown = chain.visible(own, self._registry) if variant.matrix else []
        combinations = []
        for values in itertools.product(*(self._axis(where, path, variant) for path in targets)):
            combined = chain
            for axis in values:
                combined = combined.with_layer(targets[axis.path], axis.layer)
            in_file_order = sorted(values, key=lambda axis: list(variant.matrix).index(axis.path.text))
            axes = (*chain.axes, *in_file_order)
            visible = combined.visible([*(axis.layer for axis in axes), *shown], self._registry) if axes else []
            for layer in [*(axis.layer for axis in values), *shown]:
                if layer not in visible:
                    text = "has no effect: a path of `matrix` gives the same field"
                    raise self._broken(layer.where[:4], text)
            kept = tuple(axis for axis in axes if axis.layer in visible)
            combinations.append(replace(combined, axes=kept))
        return combinations

    def _axis(self, where: DocumentPath, path: StagePath, variant: VariantConfig) -> list[Axis]:
        seen: dict[str, Axis] = {}
        for index, value in enumerate(variant.matrix[path.text]):
            layer = Layer(value, (*where, path.text, index), path.fields)
            name = label(value)
            if name in seen:
                raise self._broken(layer.where, describe("the value stands twice", value))
            seen[name] = Axis(path, name, layer)
        return list(seen.values())

    def _broken(self, where: DocumentPath, text: str) -> "_BrokenVariantError":
        self._report(where, text)
        return _BrokenVariantError()


class _BrokenVariantError(Exception):
    """A variant has a problem, which has been reported."""

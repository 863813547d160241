"""From declared variants to resolved chains: every stage with its whole configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.configuration import Config
from flows.chain_rules import TEACHER_KIND, broken_rule
from flows.chains import Chain, ChainBuilder
from flows.spec import TableConfig, TeacherConfig, VariantConfig, declared_name
from flows.stage_layers import Layer, Merged, merge
from flows.study_errors import DocumentPath, Mark, Problem, describe
from flows.validation import check, spelled_out
from flows.yaml_document import Document
from tasks.stages.base import Stage


@dataclass(frozen=True)
class ResolvedStage:
    """A stage of a chain with its whole configuration.

    Attributes:
        kind: kind of stage.
        config: instance of the stage's configuration model.
    """

    kind: str
    config: Config


@dataclass(frozen=True)
class ResolvedVariant:
    """A row of the table.

    Attributes:
        name: with the combination of its matrix, if any: `albert[rank=64,mode=all]`.
        description: what the variant shows.
        stages: the chain; the last stage is `evaluate`.
        line: line of the study file that declares it; None when it comes from the command line.
    """

    name: str
    description: str
    stages: tuple[ResolvedStage, ...]
    line: int | None

    @property
    def declared_name(self) -> str:
        """Name under which it stands in the file."""
        return declared_name(self.name)


@dataclass(frozen=True)
class Declared:
    """What a study declares about chains, without the parts that are malformed.

    Attributes:
        teacher: the teacher.
        defaults: fields of stages by kind.
        variants: variants by name.
        names: names of all variants, also of those that are malformed.
        table: the table, None when malformed.
    """

    teacher: TeacherConfig
    defaults: Mapping[str, dict[str, Any]]
    variants: Mapping[str, VariantConfig]
    names: Sequence[str]
    table: TableConfig | None


class Derivation:
    """Resolves the variants of one study file and collects what is wrong with them.

    Args:
        declared: what the study declares.
        document: the file, for the places of problems.
        registry: stages by kind.

    Attributes:
        problems: filled by `resolve`.
    """

    def __init__(self, declared: Declared, document: Document, registry: Mapping[str, Stage]) -> None:
        self._declared, self._document, self._registry = declared, document, registry
        self._illegal: set[str] = set()
        self.problems: list[Problem] = []

    def resolve(self) -> tuple[tuple[ResolvedVariant, ...], ResolvedStage | None]:
        """Resolve all chains.

        Returns:
            The variants in the order of the file, and the stage that fine-tunes the teacher: None when it is
            fine-tuned already. Both are of use only when `problems` is empty.
        """
        self._check_defaults()
        teacher = self._teacher()
        declared = self._declared
        chains = ChainBuilder(declared.variants, declared.names, self._registry, self._report).build()
        resolved = {name: [self._variant(name, chain) for chain in chains[name]] for name in chains}
        self._check_table(chains)
        variants = (variant for name in declared.variants for variant in resolved.get(name, ()))
        return tuple(variant for variant in variants if variant is not None), teacher

    def _report(self, place: DocumentPath, text: str) -> None:
        self.problems.append(Problem(self._mark(place), text))

    def _mark(self, place: DocumentPath) -> Mark:
        return self._document.mark(spelled_out(self._document.data, place))

    def _check_defaults(self) -> None:
        """Report wrong values also in defaults that no variant uses; what is missing there, a variant may give."""
        for kind in self._declared.defaults:
            if kind not in self._registry:
                self._report(("defaults", kind), describe("unknown stage", kind, self._registry))
                continue
            _, problems = self._validated(kind, self._merged(kind, []))
            self.problems += [
                problem for place, problem in problems.items() if place and " is missing" not in problem.text
            ]

    def _teacher(self) -> ResolvedStage | None:
        teacher = self._declared.teacher
        if teacher.finetuned:
            return None
        config = self._config(TEACHER_KIND, self._merged(TEACHER_KIND, [self._teacher_layer()], student=False))
        return None if config is None else ResolvedStage(TEACHER_KIND, config)

    def _teacher_layer(self) -> Layer:
        return Layer(self._declared.teacher.finetune, ("teacher", TEACHER_KIND))

    def _merged(self, kind: str, layers: Iterable[Layer], *, student: bool = True) -> Merged:
        """Merge layers over the study's defaults of a kind, taken with or without a default student."""
        default = self._declared.defaults.get(kind, {})
        if not student:
            default = {name: value for name, value in default.items() if name != "student"}
        model = self._registry[kind].config_model
        return merge(model, [Layer(default, ("defaults", kind)), *layers])

    def _variant(self, name: str, chain: Chain) -> ResolvedVariant | None:
        merged = [self._merged(draft.kind, draft.layers) for draft in chain.drafts]
        first = chain.drafts[0]
        teacher = self._declared.teacher
        if first.kind == TEACHER_KIND and not teacher.finetuned and merged[0].fields.get("student") is None:
            merged[0] = self._merged(TEACHER_KIND, [self._teacher_layer(), *first.layers])
        configs = [self._config(draft.kind, fields) for draft, fields in zip(chain.drafts, merged, strict=True)]
        self._check_order(name, chain, merged, configs)
        stages = tuple(
            ResolvedStage(kind, config) for kind, config in zip(chain.kinds, configs, strict=True) if config is not None
        )
        if len(stages) < len(configs):
            return None
        line = self._document.mark(("variants", name)).line
        description = self._declared.variants[name].description
        return ResolvedVariant(name + chain.suffix, description, stages, line)

    def _check_order(self, name: str, chain: Chain, merged: Sequence[Merged], configs: Sequence[Config | None]) -> None:
        kinds = [
            (kind, fields.fields.get("student") is not None) for kind, fields in zip(chain.kinds, merged, strict=True)
        ]
        finetuned = self._declared.teacher.finetuned
        broken = broken_rule(kinds, finetuned=finetuned, registry=self._registry, configs=configs)
        if broken is None:
            return
        origin = self._declared.variants[name].from_
        if origin is None or declared_name(origin) not in self._illegal:
            position, text = broken
            where = chain.drafts[position].where
            own = where[:2] == ("variants", name)
            self._report(where if own else ("variants", name), f"{text} (chain: {' → '.join(chain.kinds)})")
        self._illegal.add(name)

    def _validated(self, kind: str, merged: Merged) -> tuple[Config | None, dict[DocumentPath, Problem]]:
        model = self._registry[kind].config_model
        return check(model, merged.fields, lambda place: self._mark(merged.written_at(place)))

    def _config(self, kind: str, merged: Merged) -> Config | None:
        config, problems = self._validated(kind, merged)
        self.problems += problems.values()
        return config

    def _check_table(self, chains: Mapping[str, Sequence[Chain]]) -> None:
        """Report a baseline or teacher of the table that names a whole matrix, or a combination that is not there."""
        for field in ("baseline", "teacher"):
            name = getattr(self._declared.table, field, None)
            if name is None or declared_name(name) not in chains:
                continue
            spread = chains[declared_name(name)]
            names = [declared_name(name) + chain.suffix for chain in spread]
            if name not in names:
                matrix = name == declared_name(name)
                text = "is a matrix, not one variant" if matrix else "the matrix has no such combination"
                self._report(("table", field), describe(text, name, names))

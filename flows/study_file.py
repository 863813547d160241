"""Loading a study file: read, changed from the command line, checked as a whole, resolved."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from compression.data.config import TaskConfig
from flows.derivation import Declared, Derivation, ResolvedStage, ResolvedVariant
from flows.overrides import apply_overrides
from flows.spec import Parts, Study, TableConfig, TeacherConfig, VariantConfig
from flows.study_errors import Problem, StudyFileError
from flows.validation import check, spelled_out
from flows.yaml_document import Document, read_document
from tasks.stages.base import Stage


@dataclass(frozen=True)
class LoadedStudy:
    """A study file that is sound, and what follows from it.

    Attributes:
        study: what the file declares, after overrides.
        variants: rows of the table in the order of the file, matrices spread.
        teacher: the stage that fine-tunes the teacher; None when the model is fine-tuned already.
        path: the file.
        text: its text, without overrides.
        overrides: `--set` values in force.
    """

    study: Study
    variants: tuple[ResolvedVariant, ...]
    teacher: ResolvedStage | None
    path: Path
    text: str
    overrides: tuple[str, ...] = ()

    @property
    def teacher_variant(self) -> str | None:
        """Variant that is the teacher itself: the one the table names, or the first whose chain is the teacher's."""
        if self.study.table.teacher is not None:
            return self.study.table.teacher
        chain = () if self.teacher is None else (self.teacher,)
        return next((variant.name for variant in self.variants if variant.stages[:-1] == chain), None)


def load_study(
    path: Path | str, overrides: Sequence[str] = (), registry: Mapping[str, Stage] | None = None
) -> LoadedStudy:
    """Load a study file.

    Args:
        path: the YAML file.
        overrides: `PATH=VALUE` of `--set`.
        registry: stages by kind; those of `tasks.stages.registry` by default.

    Returns:
        The study with its resolved variants.

    Raises:
        StudyFileError: all problems of the file and the overrides.
    """
    if registry is None:
        from tasks.stages.registry import stages

        registry = stages()
    document = read_document(Path(path))
    problems = apply_overrides(document, overrides)
    study, found = check(Study, document.data, lambda place: document.mark(spelled_out(document.data, place)))
    problems += found.values()
    if study is None:
        problems += _disagreements(document)
    derivation = Derivation(_declared(study, document.data), document, registry)
    variants, teacher = derivation.resolve()
    problems += derivation.problems
    if problems or study is None:
        raise StudyFileError(document.path, problems)
    return LoadedStudy(study, variants, teacher, document.path, document.text, tuple(overrides))


def _valid(kind: Any, given: object) -> Any:
    """The value as what it should be, or None where it is wrong."""
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError:
        return None


def _mapping(given: object) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _disagreements(document: Document) -> Iterable[Problem]:
    """Compare the parts of a malformed study that are sound themselves."""
    data = document.data
    parts = Parts(
        _valid(TeacherConfig, data.get("teacher")),
        _valid(tuple[TaskConfig, ...], data.get("tasks")),
        _valid(tuple[int, ...], data.get("seeds")),
        tuple(_mapping(data.get("variants"))),
        _valid(TableConfig, data.get("table", {})),
    )
    return [Problem(document.mark(spelled_out(data, place)), text) for place, text in parts.disagreements()]


def _declared(study: Study | None, data: dict[str, Any]) -> Declared:
    """What derivation needs: from the study, or from the sound parts of a malformed one."""
    if study is not None:
        return Declared(study.teacher, study.defaults, study.variants, tuple(study.variants), study.table)
    teacher = _mapping(data.get("teacher"))
    unknown = TeacherConfig(model="unknown", finetuned=teacher.get("finetuned") is True)
    variants = {name: _valid(VariantConfig, given) for name, given in _mapping(data.get("variants")).items()}
    return Declared(
        _valid(TeacherConfig, teacher) or unknown,
        {kind: given for kind, given in _mapping(data.get("defaults")).items() if isinstance(given, dict)},
        {name: variant for name, variant in variants.items() if variant is not None},
        tuple(variants),
        _valid(TableConfig, data.get("table", {})),
    )

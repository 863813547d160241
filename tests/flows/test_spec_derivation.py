"""Chains: what a stage is configured with, and what `from`, `without`, `then`, `set` and `matrix` make of it."""

from pathlib import Path
from typing import Any

import pytest
from spec_stages import HEAD, REGISTRY, chain, load, load_variants

from compression.distillation.config import TaskDistillConfig
from flows.chain_rules import broken_rule
from flows.chains import label
from flows.spec import Study, declared_name, task_metrics
from flows.stage_layers import Layer, merge
from flows.study_errors import StudyFileError
from tasks.stages.registry import stages

STUDENT = {"student": "bert-tiny"}
TINY = {"student": {"preset": "bert-tiny"}}


def names(loaded: Any) -> list[str]:
    return [variant.name for variant in loaded.variants]


def test_layers_of_a_configuration(tmp_path: Path) -> None:
    loaded = load_variants(
        tmp_path,
        {
            "plain": [{"task_distill": STUDENT}],
            "entry": [{"task_distill": {**STUDENT, "epochs": 5}}],
            "set": {"from": "entry", "set": {"task_distill.epochs": 6}},
            "matrix": {"from": "set", "matrix": {"task_distill.epochs": [7]}},
        },
        defaults={"task_distill": {"epochs": 4, "temperature": 3}},
    )
    epochs = {name: chain(loaded, name)[0][1].get("epochs") for name in names(loaded)}
    assert epochs == {"plain": 4.0, "entry": 5.0, "set": 6.0, "matrix[epochs=7]": 7.0}
    assert all(chain(loaded, name)[0][1]["temperature"] == 3.0 for name in names(loaded))
    assert isinstance(loaded.variants[0].stages[0].config, TaskDistillConfig)


def test_the_teachers_own_fields_reach_the_teacher_alone(tmp_path: Path) -> None:
    loaded = load_variants(
        tmp_path,
        {
            "teacher": ["finetune"],
            "longer": [{"finetune": {"epochs": 9}}],
            "baseline": [{"finetune": STUDENT}],
            "again": [{"task_distill": STUDENT}, "finetune"],
        },
        teacher={"model": "bert", "finetune": {"epochs": 2, "batch_size": 8}},
        defaults={"finetune": {"epochs": 5}},
    )
    assert chain(loaded, "teacher")[0] == ("finetune", {"epochs": 2.0, "batch_size": 8})
    assert chain(loaded, "longer")[0] == ("finetune", {"epochs": 9.0, "batch_size": 8})
    assert chain(loaded, "baseline")[0] == ("finetune", {"epochs": 5.0, **TINY})
    assert chain(loaded, "again")[1] == ("finetune", {"epochs": 5.0})
    assert loaded.teacher == loaded.variants[0].stages[0]
    assert loaded.teacher_variant == "teacher"


def test_a_default_student_does_not_reach_the_teacher(tmp_path: Path) -> None:
    loaded = load_variants(
        tmp_path,
        {"baseline": ["finetune"], "teacher": [{"finetune": {"student": None}}]},
        defaults={"finetune": STUDENT},
        teacher={"model": "bert", "finetune": {"epochs": 1}},
    )
    assert chain(loaded, "baseline")[0][1] == TINY
    assert chain(loaded, "teacher")[0][1] == {"epochs": 1.0}
    assert loaded.teacher is not None
    assert loaded.teacher.config.student is None  # type: ignore[attr-defined]
    assert loaded.teacher_variant == "teacher"


def test_a_fine_tuned_teacher_may_have_an_empty_chain(tmp_path: Path) -> None:
    loaded = load_variants(
        tmp_path,
        {"int8": ["quantize"], "teacher": [], "student": [{"task_distill": STUDENT}]},
        teacher={"model": "mine", "finetuned": True},
    )
    assert [kind for kind, _ in chain(loaded, "teacher")] == ["evaluate"]
    assert [kind for kind, _ in chain(loaded, "int8")] == ["quantize", "evaluate"]
    assert loaded.teacher is None
    assert loaded.teacher_variant == "teacher"


def test_no_variant_need_be_the_teacher(tmp_path: Path) -> None:
    assert load_variants(tmp_path, {"a": [{"finetune": STUDENT}]}).teacher_variant is None
    named = load_variants(tmp_path, {"a": [{"finetune": STUDENT}]}, table={"teacher": "a"})
    assert named.teacher_variant == "a"


def test_evaluate_ends_every_chain_once(tmp_path: Path) -> None:
    loaded = load_variants(
        tmp_path,
        {
            "a": ["finetune"],
            "b": ["finetune", {"evaluate": {"batch_size": 8}}],
            "then": {"from": "b", "then": ["quantize"]},
            "replaced": {"from": "b", "then": ["quantize", {"evaluate": {"batch_size": 9}}]},
            "plain": {"from": "b", "without": ["evaluate"]},
            "set": {"from": "a", "set": {"evaluate.batch_size": 3}},
        },
    )
    assert chain(loaded, "a") == [("finetune", {}), ("evaluate", {})]
    assert chain(loaded, "then")[1:] == [("quantize", {}), ("evaluate", {"batch_size": 8})]
    assert chain(loaded, "replaced")[1:] == [("quantize", {}), ("evaluate", {"batch_size": 9})]
    assert chain(loaded, "plain")[1:] == [("evaluate", {})]
    assert chain(loaded, "set")[1:] == [("evaluate", {"batch_size": 3})]


def test_order_of_application(tmp_path: Path) -> None:
    loaded = load_variants(
        tmp_path,
        {
            "base": [{"task_distill": STUDENT}, {"finetune": {"epochs": 1}}],
            "derived": {
                "from": "base",
                "without": ["finetune"],
                "then": [{"finetune": {"epochs": 2}}, "quantize"],
                "set": {"*.epochs": 3, "quantize.embeddings": False},
                "matrix": {"finetune.epochs": [4, 5]},
            },
        },
    )
    assert names(loaded) == ["base", "derived[epochs=4]", "derived[epochs=5]"]
    assert chain(loaded, "derived[epochs=5]") == [
        ("task_distill", {"epochs": 3.0, **TINY} if TaskDistillConfig().epochs != 3 else TINY),
        ("finetune", {"epochs": 5.0}),
        ("quantize", {"embeddings": False}),
        ("evaluate", {}),
    ]


def test_a_precise_path_wins_over_the_star_in_any_order(tmp_path: Path) -> None:
    paths = [("*.epochs", 1), ("task_distill.epochs", 2)]
    for ordered in (paths, paths[::-1]):
        loaded = load_variants(
            tmp_path, {"a": {"stages": [{"task_distill": STUDENT}, "finetune"], "set": dict(ordered)}}
        )
        assert [config.get("epochs") for _, config in chain(loaded, "a")] == [2.0, 1.0, None]


def test_occurrences_count_from_0(tmp_path: Path) -> None:
    stages = ["finetune", "finetune"]
    loaded = load_variants(
        tmp_path, {"a": {"stages": stages, "set": {"finetune[1].epochs": 9, "finetune[0].epochs": 8}}}
    )
    assert [config.get("epochs") for _, config in chain(loaded, "a")] == [8.0, 9.0, None]


def test_nested_paths_and_free_mappings(tmp_path: Path) -> None:
    stages = [{"general": {"corpus": "c", **STUDENT, "objectives": {"attention": 5}}}, "finetune"]
    loaded = load_variants(
        tmp_path,
        {"a": {"stages": stages, "set": {"*.objectives.embedding": 0, "general.extras.any-name": 2}}},
        defaults={"general": {"extras": {"kept": 1}}},
    )
    objectives = chain(loaded, "a")[0][1]
    assert objectives["objectives"] == {"embedding": 0.0, "attention": 5.0}
    assert objectives["extras"] == {"kept": 1.0, "any-name": 2.0}


@pytest.mark.parametrize(
    ("default", "given", "result"),
    [
        ({"layers": [0]}, {"preset": "bert-tiny"}, {"preset": "bert-tiny"}),
        ({"layers": [0]}, "bert-tiny", {"preset": "bert-tiny"}),
        ("bert-tiny", {"layers": [0, 1]}, {"layers": (0, 1)}),
        ({"layers": [0]}, {"layers": [1]}, {"layers": (1,)}),
        ({"preset": "bert-tiny"}, {}, {"preset": "bert-tiny"}),
    ],
)
def test_a_student_of_another_form_replaces_the_default(tmp_path: Path, default: Any, given: Any, result: Any) -> None:
    loaded = load_variants(
        tmp_path, {"a": [{"finetune": {"student": given}}]}, defaults={"finetune": {"student": default}}
    )
    assert chain(loaded, "a")[0][1]["student"] == result
    assert loaded.teacher is not None


def test_layers_know_what_they_left(tmp_path: Path) -> None:
    model = REGISTRY["finetune"].config_model
    first = Layer({"epochs": 1, "student": {"layers": [0]}}, ("first",))
    second = Layer([1], ("second",), ("student", "layers"))
    third = Layer("bert-tiny", ("third",), ("student",))
    merged = merge(model, [first, second, third])
    assert (merged.shows(first), merged.shows(second), merged.shows(third)) == (True, False, True)
    assert merged.written_at(("epochs",)) == ("first", "epochs")
    assert merge(model, [first, second]).written_at(("student", "layers", 0)) == ("second", 0)


def test_a_matrix_is_every_combination(tmp_path: Path) -> None:
    matrix = {"task_distill.temperature": [1, 2.5], "quantize.embeddings": [True, False]}
    loaded = load_variants(tmp_path, {"m": {"stages": [{"task_distill": STUDENT}, "quantize"], "matrix": matrix}})
    assert names(loaded) == [
        "m[temperature=1,embeddings=true]",
        "m[temperature=1,embeddings=false]",
        "m[temperature=2.5,embeddings=true]",
        "m[temperature=2.5,embeddings=false]",
    ]
    assert [chain(loaded, name)[0][1].get("temperature") for name in names(loaded)] == [1.0, 1.0, 2.5, 2.5]
    assert {variant.declared_name for variant in loaded.variants} == {"m"}


def test_ambiguous_factors_are_named_in_full(tmp_path: Path) -> None:
    matrix = {"task_distill.epochs": [1], "finetune.epochs": [2], "quantize.embeddings": [True]}
    stages = [{"task_distill": STUDENT}, "finetune", "quantize"]
    loaded = load_variants(tmp_path, {"m": {"stages": stages, "matrix": matrix}})
    assert names(loaded) == ["m[task_distill.epochs=1,finetune.epochs=2,embeddings=true]"]


def test_deriving_from_a_matrix(tmp_path: Path) -> None:
    matrix = {"task_distill.temperature": [1, 2], "task_distill.epochs": [3, 4]}
    loaded = load_variants(
        tmp_path,
        {
            "m": {"stages": [{"task_distill": STUDENT}], "matrix": matrix},
            "int8": {"from": "m", "then": ["quantize"]},
            "finer": {"from": "int8", "matrix": {"quantize.embeddings": [True, False]}},
            "fixed": {"from": "m", "set": {"task_distill.temperature": 9}},
            "other": {"from": "m", "matrix": {"task_distill.epochs": [7]}},
            "none": {"from": "m", "without": ["task_distill"], "then": ["finetune"]},
            "one": {"from": "m[temperature=2,epochs=4]", "then": ["quantize"]},
        },
        table={"baseline": "m[temperature=1,epochs=3]"},
    )
    suffixes: dict[str, list[str]] = {}
    for name in names(loaded):
        suffixes.setdefault(declared_name(name), []).append(name.removeprefix(declared_name(name)))
    spread = [
        "[temperature=1,epochs=3]",
        "[temperature=1,epochs=4]",
        "[temperature=2,epochs=3]",
        "[temperature=2,epochs=4]",
    ]
    assert suffixes["int8"] == spread
    assert len(suffixes["finer"]) == 8
    assert suffixes["finer"][0] == "[temperature=1,epochs=3,embeddings=true]"
    assert suffixes["fixed"] == ["[epochs=3]", "[epochs=4]"]
    assert suffixes["other"] == ["[temperature=1,epochs=7]", "[temperature=2,epochs=7]"]
    assert suffixes["none"] == [""]
    assert suffixes["one"] == [""]
    assert chain(loaded, "one")[0][1]["epochs"] == 4.0
    assert chain(loaded, "fixed[epochs=4]")[0][1]["temperature"] == 9.0


def test_variants_may_stand_before_what_they_derive_from(tmp_path: Path) -> None:
    loaded = load_variants(tmp_path, {"b": {"from": "a", "then": ["quantize"]}, "a": ["finetune"]})
    assert names(loaded) == ["b", "a"]
    assert [variant.line for variant in loaded.variants] == [7, 11]


def test_derivation_of_any_depth(tmp_path: Path) -> None:
    variants: dict[str, Any] = {f"v{i}": {"from": f"v{i + 1}"} for i in range(1500)}
    loaded = load_variants(tmp_path, {**variants, "v1500": ["finetune"]})
    assert len(loaded.variants) == 1501
    assert chain(loaded, "v0") == chain(loaded, "v1500")


def test_a_thousand_variants(tmp_path: Path) -> None:
    variants: dict[str, Any] = {f"v{i}": {"from": "base", "set": {"task_distill.epochs": i + 1}} for i in range(999)}
    loaded = load_variants(tmp_path, {"base": [{"task_distill": STUDENT}, "quantize"], **variants})
    assert len(loaded.variants) == 1000
    assert chain(loaded, "v998")[0][1]["epochs"] == 999.0


def test_the_study_survives_json(tmp_path: Path) -> None:
    loaded = load_variants(
        tmp_path,
        {
            "a": ["finetune"],
            "b": {"from": "a", "set": {"finetune.epochs": 1}, "matrix": {"finetune.batch_size": [1, 2]}},
        },
        tasks=["sst2", {"name": "own", "files": {"train": "a.csv"}, "text": ["x", "y"]}],
    )
    assert Study.model_validate(loaded.study.model_dump(mode="json")) == loaded.study


def test_short_forms_of_a_stage(tmp_path: Path) -> None:
    loaded = load(tmp_path, HEAD + "defaults:\n  finetune:\nvariants:\n  a: [finetune]\n  b:\n    - finetune:\n")
    assert chain(loaded, "a") == chain(loaded, "b") == [("finetune", {}), ("evaluate", {})]


def test_labels_are_safe_and_short() -> None:
    assert label(1e-5) == "1e-05"
    assert label("package:a/b [c]") == "package:a_b__c_"
    assert label([True, None]) == "true+null"


@pytest.mark.parametrize(
    ("kinds", "finetuned", "message"),
    [
        (["finetune", "quantize", "evaluate"], False, None),
        (["quantize", "evaluate"], True, None),
        (["evaluate"], True, None),
        (["general+", "finetune", "evaluate"], False, None),
        (["finetune", "task_distill", "evaluate"], False, None),
        (["evaluate"], False, "an empty chain needs `teacher.finetuned: true`: a pretrained encoder cannot be evaluated"),
        (["general", "finetune", "evaluate"], False, "`general` at the start of a chain needs a `student`"),
        (["finetune", "general", "evaluate"], False, "`general` cannot follow `finetune`; allowed: finetune, task_distill, quantize, evaluate"),
        (["finetune", "quantize", "quantize", "evaluate"], False, "`quantize` cannot follow `quantize`; allowed: evaluate"),
        (["quantize", "evaluate"], False, "`quantize` cannot follow the pretrained encoder; allowed: general, finetune, task_distill"),
        (["general+", "evaluate"], False, "`evaluate` cannot follow `general`; allowed: general, finetune, task_distill"),
    ],
)  # fmt: skip
def test_rules_of_a_chain(kinds: list[str], finetuned: bool, message: str | None) -> None:
    given = [(kind.removesuffix("+"), kind.endswith("+")) for kind in kinds]
    broken = broken_rule(given, finetuned=finetuned, registry=REGISTRY)
    assert (broken and broken[1]) == message


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["pretrain", "finetune", "evaluate"], None),
        (["pretrain+", "task_distill", "evaluate"], None),
        (["pretrain", "pretrain", "finetune", "evaluate"], None),
        (["finetune", "pretrain", "evaluate"], "`pretrain` cannot follow `finetune`"),
        (["pretrain", "evaluate"], "`evaluate` cannot follow `pretrain`"),
        (["task_distill", "evaluate"], "`task_distill` at the start of a chain needs a `student`"),
    ],
)
def test_rules_of_the_real_stages(kinds: list[str], message: str | None) -> None:
    given = [(kind.removesuffix("+"), kind.endswith("+")) for kind in kinds]
    broken = broken_rule(given, finetuned=False, registry=stages())
    assert (broken and broken[1].partition(";")[0]) == message


def test_metrics_of_every_glue_task(tmp_path: Path) -> None:
    loaded = load_variants(tmp_path, {"a": ["finetune"]}, tasks=["cola", "stsb", "mnli"])
    assert [task_metrics(task) for task in loaded.study.tasks] == [
        ("matthews",),
        ("pearson", "spearman"),
        ("accuracy", "accuracy_mismatched"),
    ]


def test_problems_of_an_origin_are_told_once(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError) as caught:
        load_variants(
            tmp_path, {"a": ["quantize"], "b": {"from": "a"}, "c": {"from": "b", "set": {"quantize.nope": 1}}}
        )
    assert [problem.mark.path[:2] for problem in caught.value.problems] == [("variants", "a"), ("variants", "c")]

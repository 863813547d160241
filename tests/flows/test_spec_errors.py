"""Malformed study files, each with the message that its author reads."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_stages import HEAD, REGISTRY, load

from compression.architecture.presets import PRESETS
from compression.data.glue import GLUE_TASKS
from compression.training.finetune_config import FinetuneConfig
from flows.study_errors import StudyFileError
from flows.study_file import load_study

TRAINING = ", ".join(sorted(FinetuneConfig.model_fields))
TRAINING_AND_MEASURING = ", ".join(sorted({*FinetuneConfig.model_fields, "batch_size", "repeats"}))
KINDS = ", ".join(REGISTRY)
GLUE = ", ".join(GLUE_TASKS)
NAMES = ", ".join(PRESETS)
TEACHER = "variants: {teacher: [finetune]}\n"


def messages(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(StudyFileError) as caught:
        load(folder, text, *overrides)
    return str(caught.value).replace(str(folder) + "/", "")


# HEAD fills lines 1 to 3.
MALFORMED = {
    "missing top-level fields": (
        "name: demo\n",
        "study.yaml:1: `teacher` is missing\nstudy.yaml:1: `tasks` is missing\nstudy.yaml:1: `variants` is missing",
    ),
    "misspelt top-level field is not also missing": (
        "name: demo\nteacher: {model: m}\ntask: [sst2]\n" + TEACHER,
        "study.yaml:3: task: unknown field; given 'task'; allowed: defaults, description, name, seeds, table, tasks, "
        "teacher, variants; did you mean 'tasks'?",
    ),
    "name that leaves its folder": (
        HEAD.replace("demo", "../demo") + TEACHER,
        "study.yaml:1: name: must be a name: a letter or digit first, then letters, digits, `.`, `_` and `-`; given '../demo'",
    ),
    "name read as a number": (
        HEAD.replace("demo", "2024") + TEACHER,
        "study.yaml:1: name: must be text (put it in quotes); given 2024",
    ),
    "teacher without a model": (
        HEAD.replace("{model: bert-base-uncased}", "{modl: bert}") + TEACHER,
        "study.yaml:2: teacher.modl: unknown field; given 'modl'; allowed: finetune, finetuned, model, revision, seed; "
        "did you mean 'model'?",
    ),
    "fine-tuned teacher that is fine-tuned": (
        HEAD.replace("uncased}", "uncased, finetuned: true, seed: 1}") + TEACHER,
        "study.yaml:2: teacher: `finetune` and `seed` mean nothing for a teacher that is fine-tuned already; leave them out",
    ),
    "fine-tuned teacher of two tasks": (
        HEAD.replace("uncased}", "uncased, finetuned: true}").replace("[sst2]", "[sst2, mrpc]") + TEACHER,
        'study.yaml:2: teacher.finetuned: a teacher that is fine-tuned already has one task; given ["sst2", "mrpc"]',
    ),
    "revision of a local model": (
        HEAD.replace("bert-base-uncased}", "'package:a/b', revision: main}") + TEACHER,
        "study.yaml:2: teacher: `revision` belongs to a model on the hub, and this one is local; given 'package:a/b'",
    ),
    "teacher with a student": (
        HEAD.replace("uncased}", "uncased, finetune: {student: bert-tiny}}") + TEACHER,
        "study.yaml:2: teacher: the teacher is no student; leave out `finetune.student`",
    ),
    "teacher with a bad field": (
        HEAD.replace("uncased}", "uncased, finetune: {epochs: 0}}") + TEACHER,
        "study.yaml:2: teacher.finetune.epochs: must be greater than 0; given 0",
    ),
    "unknown GLUE task": (
        HEAD.replace("sst2", "sst-2") + TEACHER,
        f"study.yaml:3: tasks[0]: task 'sst-2' needs either `files` or the name of a published task ({GLUE}, squad, squad_v2); did you mean 'sst2'?",
    ),
    "task twice": (
        HEAD.replace("[sst2]", "[sst2, sst2]") + TEACHER,
        "study.yaml:3: tasks[1]: the task stands twice; given 'sst2'",
    ),
    "no task": (HEAD.replace("[sst2]", "[]") + TEACHER, "study.yaml:3: tasks: must not be empty; given []"),
    "field of a task that fits no form": (
        "name: demo\nteacher: {model: m}\ntasks:\n  - {name: own, files: {train: a.csv}, text: 3}\n" + TEACHER,
        "study.yaml:4: tasks[0].text: must be text (put it in quotes) or a list; given 3",
    ),
    "one label": (
        "name: demo\nteacher: {model: m}\ntasks:\n  - name: own\n    files: {train: a.csv}\n    labels: [a]\n"
        + TEACHER,
        'study.yaml:6: tasks[0].labels: needs at least 2 items; given ["a"]',
    ),
    "text columns": (
        "name: demo\nteacher: {model: m}\ntasks:\n  - name: own\n    files: {train: a.csv}\n    text: [a, 1]\n"
        + TEACHER,
        "study.yaml:6: tasks[0].text[1]: must be text (put it in quotes); given 1",
    ),
    "seeds": (
        HEAD + "seeds: [0, -1, x]\n" + TEACHER,
        "study.yaml:4: seeds[1]: must be at least 0; given -1\nstudy.yaml:4: seeds[2]: must be a whole number; given 'x'",
    ),
    "seed twice": (HEAD + "seeds:\n  - 3\n  - 3\n" + TEACHER, "study.yaml:6: seeds[1]: the seed stands twice; given 3"),
    "truth value for a number": (
        HEAD + "seeds: [true]\ndefaults: {finetune: {epochs: true}}\n" + TEACHER,
        "study.yaml:4: seeds[0]: must be a number; given true\n"
        "study.yaml:5: defaults.finetune.epochs: must be a number; given true",
    ),
    "defaults of an unknown stage": (
        HEAD + "defaults:\n  finetuning: {epochs: 1}\n" + TEACHER,
        f"study.yaml:5: defaults.finetuning: unknown stage; given 'finetuning'; allowed: {KINDS}; did you mean 'finetune'?",
    ),
    "defaults that no variant uses": (
        HEAD + "defaults:\n  quantize:\n    scheme: int4-dynamic\n" + TEACHER,
        "study.yaml:6: defaults.quantize.scheme: not a known choice; given 'int4-dynamic'; allowed: int8-dynamic, "
        "int8-static, int8-qat, int8-weight, int4-weight, fp8-e4m3, fp8-e5m2, bf16, fp16; "
        "did you mean 'int8-dynamic'?",
    ),
    "defaults that all variants use, told once": (
        HEAD
        + "defaults:\n  finetune:\n    learning_rate: .inf\n    epoch: 3\nvariants:\n  a: [finetune]\n  b: [finetune]\n",
        "study.yaml:6: defaults.finetune.learning_rate: must be a finite number; given Infinity\n"
        f"study.yaml:7: defaults.finetune.epoch: unknown field; given 'epoch'; allowed: {TRAINING}; did you mean 'epochs'?",
    ),
    "unknown stage": (
        HEAD + "variants:\n  a:\n    - finetune\n    - quantise\n",
        f"study.yaml:7: variants.a[1]: unknown stage; given 'quantise'; allowed: {KINDS}; did you mean 'quantize'?",
    ),
    "unknown field of a stage": (
        HEAD + "variants:\n  a:\n    - finetune:\n        epochs: 1\n        epoch: 3\n",
        f"study.yaml:8: variants.a[0].finetune.epoch: unknown field; given 'epoch'; allowed: {TRAINING}; did you mean 'epochs'?",
    ),
    "value of a stage": (
        HEAD + "variants:\n  a:\n    - finetune: {schedule: linaer}\n    - quantize: {embeddings: maybe}\n",
        "study.yaml:6: variants.a[0].finetune.schedule: not a known choice; given 'linaer'; allowed: linear, cosine, "
        "constant; did you mean 'linear'?\n"
        "study.yaml:7: variants.a[1].quantize.embeddings: must be true or false; given 'maybe'",
    ),
    "unknown preset": (
        HEAD + "variants:\n  a: [{finetune: {student: bert-tinny}}]\n",
        f"study.yaml:5: variants.a[0].finetune.student: unknown preset 'bert-tinny'; allowed: {NAMES}; did you mean 'bert-tiny'?",
    ),
    "position in a list of a stage": (
        HEAD + "variants:\n  a:\n    - finetune:\n        student:\n          layers: [0,\n            -1]\n",
        "study.yaml:9: variants.a[0].finetune.student.layers[1]: must be at least 0; given -1",
    ),
    "neither a name nor a list": (
        HEAD + "variants:\n  a: [{finetune: {student: {layers: unifrom, count: 2}}}]\n",
        "study.yaml:5: variants.a[0].finetune.student.layers: not a known choice and no list; given 'unifrom'; "
        "allowed: uniform, top, bottom, first-last, distilbert; did you mean 'uniform'?",
    ),
    "an empty list where a name could stand": (
        HEAD + "variants:\n  a: [{finetune: {student: {layers: []}}}]\n",
        "study.yaml:5: variants.a[0].finetune.student.layers: must not be empty; given []",
    ),
    "fields that contradict each other": (
        HEAD
        + "variants:\n  a: [{task_distill: {student: bert-tiny}}]\n  b:\n    from: a\n    set:\n      task_distill.soft_weight: 0\n",
        'study.yaml:9: variants.b.set["task_distill.soft_weight"]: soft_weight is 0, so nothing would be distilled: use the '
        "`finetune` stage instead",
    ),
    "required field of a stage": (
        HEAD
        + "variants:\n  a: {stages: [{general: {student: bert-tiny}}, finetune], set: {general.objectives.attention: 0}}\n",
        "study.yaml:5: variants.a.stages[0].general: `corpus` is missing",
    ),
    "two stages in one entry": (
        HEAD + "variants:\n  a:\n    - finetune: {}\n      quantize: {}\n",
        "study.yaml:6: variants.a[0]: a stage is its kind, or a mapping with one key, `{KIND: {FIELD: VALUE}}`; "
        'given {"finetune": {}, "quantize": {}}',
    ),
    "variant that is a string": (
        HEAD + "variants:\n  a: finetune\n",
        "study.yaml:5: variants.a: must be a list of stages, or a mapping with `stages` or `from`; given 'finetune'",
    ),
    "name of a variant": (
        HEAD + "variants:\n  a/b: [finetune]\n",
        'study.yaml:5: variants["a/b"]: must be a name: a letter or digit first, then letters, digits, `.`, `_` and `-`; '
        "given 'a/b'",
    ),
    "variant with two origins": (
        HEAD + "variants:\n  a: [finetune]\n  b: {from: a, stages: [finetune]}\n",
        "study.yaml:6: variants.b: a variant has either `stages` or `from`",
    ),
    "misspelt field of a variant": (
        HEAD + "variants:\n  a: [finetune]\n  b: {from: a, witout: [finetune]}\n",
        "study.yaml:6: variants.b.witout: unknown field; given 'witout'; allowed: description, from, matrix, set, stages, "
        "then, without; did you mean 'without'?",
    ),
    "unknown origin": (
        HEAD + "variants:\n  small: [finetune]\n  b:\n    from: smal\n",
        "study.yaml:7: variants.b.from: no such variant; given 'smal'; allowed: small, b; did you mean 'small'?",
    ),
    "cycle": (
        HEAD + "variants:\n  a: {from: c}\n  b: {from: a}\n  c: {from: b}\n  d: {from: c}\n",
        "study.yaml:5: variants.a.from: derives from itself: a → c → b → a",
    ),
    "unknown combination": (
        HEAD + "variants:\n  m: {stages: [finetune], matrix: {finetune.epochs: [1, 2]}}\n  b: {from: 'm[epochs=3]'}\n",
        "study.yaml:6: variants.b.from: no such combination; given 'm[epochs=3]'; allowed: m[epochs=1], m[epochs=2]; "
        "did you mean 'm[epochs=2]'?",
    ),
    "stage to leave out that is not there": (
        HEAD + "variants:\n  a: [finetune]\n  b: {from: a, without: [quantize]}\n",
        "study.yaml:6: variants.b.without[0]: the chain has no such stage; given 'quantize'; allowed: finetune, evaluate",
    ),
    "paths": (
        HEAD
        + "variants:\n  a:\n    stages: [finetune, finetune]\n    set:\n"
        + "      epochs: 1\n      '*.epoch': 1\n      quantize.scheme: x\n      finetune.epochs: 1\n      finetune[2].epochs: 1\n"
        + "      finetune[0].student.layer: 1\n      finetune[0].epochs.deep: 1\n",
        "study.yaml:8: variants.a.set.epochs: not a path; given 'epochs'; allowed: KIND.FIELD, KIND[0].FIELD, *.FIELD\n"
        "study.yaml:9: variants.a.set[\"*.epoch\"]: no stage of the chain has this field; given 'epoch'; allowed: "
        f"{TRAINING_AND_MEASURING}; did you mean 'epochs'?\n"
        "study.yaml:10: variants.a.set[\"quantize.scheme\"]: the chain has no such stage; given 'quantize'; allowed: "
        "finetune, evaluate\n"
        "study.yaml:11: variants.a.set[\"finetune.epochs\"]: the chain has several such stages; given 'finetune'; allowed: "
        "finetune[0], finetune[1]; did you mean 'finetune[1]'?\n"
        "study.yaml:12: variants.a.set[\"finetune[2].epochs\"]: the chain has no such stage; given 'finetune[2]'; allowed: "
        "finetune[0], finetune[1]; did you mean 'finetune[1]'?\n"
        "study.yaml:13: variants.a.set[\"finetune[0].student.layer\"]: `finetune.student` has no such field; given 'layer'; "
        "allowed: count, embeddings, layers, pooler, preset, token_types; did you mean 'layers'?\n"
        "study.yaml:14: variants.a.set[\"finetune[0].epochs.deep\"]: `finetune.epochs` has no such field; given 'deep'",
    ),
    "value of a path": (
        HEAD + "variants:\n  a:\n    stages: [finetune]\n    set:\n      finetune.epochs: many\n",
        "study.yaml:8: variants.a.set[\"finetune.epochs\"]: must be a number; given 'many'",
    ),
    "value of a matrix": (
        HEAD
        + "variants:\n  a:\n    stages: [finetune]\n    matrix:\n      finetune.batch_size:\n        - 1\n        - 2.5\n",
        'study.yaml:10: variants.a.matrix["finetune.batch_size"][1]: must be a whole number; given 2.5',
    ),
    "empty matrix": (
        HEAD + "variants:\n  a: {stages: [finetune], matrix: {finetune.epochs: []}}\n",
        'study.yaml:5: variants.a.matrix["finetune.epochs"]: must not be empty; given []',
    ),
    "repeated value of a matrix": (
        HEAD + "variants:\n  a: {stages: [finetune], matrix: {finetune.epochs: [1, 2, 1.0]}}\n",
        'study.yaml:5: variants.a.matrix["finetune.epochs"][2]: the value stands twice; given 1.0',
    ),
    "set without effect": (
        HEAD
        + "variants:\n  a:\n    stages: [finetune]\n    set: {finetune.epochs: 1}\n    matrix: {'*.epochs': [2, 3]}\n",
        'study.yaml:7: variants.a.set["finetune.epochs"]: has no effect: a path of `matrix` gives the same field',
    ),
    "factor without effect": (
        HEAD
        + "variants:\n  a:\n    stages: [finetune]\n    matrix:\n      '*.epochs': [2, 3]\n      finetune.epochs: [4]\n",
        'study.yaml:8: variants.a.matrix["*.epochs"]: has no effect: a path of `matrix` gives the same field',
    ),
    "matrix without end": (
        HEAD
        + "variants:\n  a:\n    stages: [finetune]\n    matrix:\n"
        + f"      finetune.epochs: {list(range(1, 102))}\n      finetune.batch_size: {list(range(1, 101))}\n",
        "study.yaml:7: variants.a.matrix: makes 10,100 variants; a study has at most 10,000 in all",
    ),
    "chain that starts with a pretrained encoder": (
        HEAD + "variants:\n  a: [quantize]\n",
        "study.yaml:5: variants.a[0]: `quantize` cannot follow the pretrained encoder; allowed: general, finetune, "
        "task_distill (chain: quantize → evaluate)",
    ),
    "quantize before distil": (
        HEAD + "variants:\n  a:\n    - finetune\n    - quantize\n    - task_distill\n",
        "study.yaml:8: variants.a[2]: `task_distill` cannot follow `quantize`; allowed: evaluate "
        "(chain: finetune → quantize → task_distill → evaluate)",
    ),
    "distillation without a student": (
        HEAD + "variants:\n  a: [task_distill]\n",
        "study.yaml:5: variants.a[0]: `task_distill` at the start of a chain needs a `student` (chain: task_distill → evaluate)",
    ),
    "student in the middle": (
        HEAD + "variants:\n  a: [finetune, {task_distill: {student: bert-tiny}}]\n",
        "study.yaml:5: variants.a[1].task_distill: `task_distill` is given a student, which only the first stage of a chain "
        "can be (chain: finetune → task_distill → evaluate)",
    ),
    "evaluate in the middle": (
        HEAD + "variants:\n  a: [finetune, evaluate, quantize]\n",
        "study.yaml:5: variants.a[1]: `evaluate` ends a chain; nothing can follow it "
        "(chain: finetune → evaluate → quantize → evaluate)",
    ),
    "empty chain": (
        HEAD + "variants:\n  a: []\n",
        "study.yaml:5: variants.a: an empty chain needs `teacher.finetuned: true`: a pretrained encoder cannot be evaluated "
        "(chain: evaluate)",
    ),
    "chain that derivation broke": (
        HEAD + "variants:\n  a: [finetune, quantize]\n  b:\n    from: a\n    without: [finetune]\n",
        "study.yaml:6: variants.b: `quantize` cannot follow the pretrained encoder; allowed: general, finetune, task_distill "
        "(chain: quantize → evaluate)",
    ),
    "table": (
        HEAD
        + "variants:\n  small: [finetune]\ntable:\n  baseline: smal\n  teacher: nobody\n"
        + "  metrics: {sst2: [f1], mrpc: [f1]}\n  sort: [-sst2.accuracy, -sst2.f1, latncy]\n",
        "study.yaml:7: table.baseline: no such variant; given 'smal'; allowed: small; did you mean 'small'?\n"
        "study.yaml:8: table.teacher: no such variant; given 'nobody'; allowed: small\n"
        "study.yaml:9: table.metrics.sst2[0]: task 'sst2' has no such metric; given 'f1'; allowed: accuracy\n"
        "study.yaml:9: table.metrics.mrpc: no such task; given 'mrpc'; allowed: sst2\n"
        "study.yaml:10: table.sort[1]: no such column; given '-sst2.f1'; allowed: variant, parameters, bytes, latency, "
        "sst2.accuracy\n"
        "study.yaml:10: table.sort[2]: no such column; given 'latncy'; allowed: variant, parameters, bytes, latency, "
        "sst2.accuracy; did you mean 'latency'?",
    ),
    "baseline that is a whole matrix": (
        HEAD
        + "variants:\n  m: {stages: [finetune], matrix: {finetune.epochs: [1, 2]}}\ntable: {baseline: m, teacher: 'm[epochs=9]'}\n",
        "study.yaml:6: table.baseline: is a matrix, not one variant; given 'm'; allowed: m[epochs=1], m[epochs=2]\n"
        "study.yaml:6: table.teacher: the matrix has no such combination; given 'm[epochs=9]'; allowed: m[epochs=1], "
        "m[epochs=2]; did you mean 'm[epochs=2]'?",
    ),
    "everything at once": (
        "name: demo\nteacher: {model: m, revison: main}\ntasks: [sst2]\nseeds: [1, 1]\nvariants:\n"
        "  a: {from: b}\n  c: [quantize]\n  d: nothing\n  e: {from: d}\ntable: {baseline: x}\n",
        "study.yaml:2: teacher.revison: unknown field; given 'revison'; allowed: finetune, finetuned, model, revision, seed; "
        "did you mean 'revision'?\n"
        "study.yaml:4: seeds[1]: the seed stands twice; given 1\n"
        "study.yaml:6: variants.a.from: no such variant; given 'b'; allowed: a, c, d, e\n"
        "study.yaml:7: variants.c[0]: `quantize` cannot follow the pretrained encoder; allowed: general, finetune, "
        "task_distill (chain: quantize → evaluate)\n"
        "study.yaml:8: variants.d: must be a list of stages, or a mapping with `stages` or `from`; given 'nothing'\n"
        "study.yaml:10: table.baseline: no such variant; given 'x'; allowed: a, c, d, e",
    ),
}


@pytest.mark.parametrize(("text", "expected"), MALFORMED.values(), ids=MALFORMED)
def test_message(tmp_path: Path, text: str, expected: str) -> None:
    assert messages(tmp_path, text) == expected


GOOD: dict[str, Any] = {
    "name": "demo",
    "teacher": {"model": "m", "finetune": {"epochs": 1}},
    "tasks": ["sst2", {"name": "own", "files": {"train": "a.csv"}, "labels": ["a", "b"]}],
    "seeds": [0, 1],
    "defaults": {"finetune": {"epochs": 2}, "task_distill": {"student": {"layers": [0]}}},
    "variants": {
        "teacher": ["finetune"],
        "small": [{"task_distill": {"temperature": 2}}],
        "grid": {"from": "small", "matrix": {"*.epochs": [1, 2]}},
        "int8": {"from": "grid", "then": ["quantize"], "set": {"quantize.embeddings": False}},
        "bare": {"from": "int8", "without": ["quantize"]},
    },
    "table": {"baseline": "small", "metrics": {"sst2": ["accuracy"]}, "sort": ["latency"]},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["", "finetune", "teacher", "a.b", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["finetune", "from", "*.epochs", "x"]), inner),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(places(GOOD)[1:]), value=ANYTHING)
def test_whatever_stands_in_a_file_it_loads_or_is_refused_in_words(
    tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    study = json.loads(json.dumps(GOOD))
    node = study
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    refusal = None
    variants: tuple[Any, ...] = ()
    try:
        variants = load_study(path, registry=REGISTRY).variants
    except StudyFileError as error:
        refusal = error
    if refusal is not None:
        assert refusal.problems
        assert all(line.startswith(f"{path}:") for line in str(refusal).splitlines())
        assert all(problem.mark.line for problem in refusal.problems)
    assert bool(variants) == (refusal is None)
    assert all(variant.stages[-1].kind == "evaluate" for variant in variants)
    assert len({variant.name for variant in variants}) == len(variants)

"""What the command line changes in a study, and what it narrows it to."""

from pathlib import Path

import pytest
from spec_stages import HEAD, chain, load

from flows.overrides import select
from flows.study_errors import StudyFileError

STUDY = """\
name: demo
teacher: {model: bert}
tasks: [sst2, {name: v1.1, files: {train: a.csv}}, {name: v1, files: {train: a.csv}}]
seeds: [0, 1, 2]
defaults:
  finetune: {epochs: 5}
variants:
  teacher: [finetune]
  small:
    - finetune: {student: bert-tiny}
    - quantize
  small.8: {from: small, set: {finetune.epochs: 7}}
  grid: {from: small, matrix: {finetune.epochs: [1, 2], quantize.embeddings: [true, false]}}
table: {baseline: small, metrics: {sst2: [accuracy], v1: [macro_f1]}}
"""


def test_values_anywhere_in_the_study(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        STUDY,
        "seeds=[4, 5]",
        "tasks.sst2.limit_train=500",
        "tasks.v1.1.max_length=64",
        "tasks.2.max_length=32",
        "tasks[0].max_length=16",
        "defaults.finetune.learning_rate=1e-4",
        "defaults.quantize.embeddings=false",
        "teacher.finetune.epochs=1",
        "teacher.seed=3",
        "table.baseline=",
        "description=why not = yes",
        "variants.extra=[finetune, quantize]",
    )
    study = loaded.study
    assert study.seeds == (4, 5)
    assert [(task.name, task.limit_train, task.max_length) for task in study.tasks] == [
        ("sst2", 500, 16),
        ("v1.1", None, 64),
        ("v1", None, 32),
    ]
    assert (study.teacher.seed, study.table.baseline, study.description) == (3, None, "why not = yes")
    assert chain(loaded, "teacher")[0][1] == {"epochs": 1.0, "learning_rate": 1e-4}
    assert chain(loaded, "extra")[1][1] == {"embeddings": False}
    assert loaded.variants[-1].line is None
    assert loaded.text == STUDY
    assert loaded.overrides[0] == "seeds=[4, 5]"


def test_stages_of_a_variant(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        STUDY,
        "variants.small.finetune.epochs=2",
        "variants.small.quantize.embeddings=false",
        "variants.teacher[0]={finetune: {epochs: 4}}",
        "variants.teacher[0].finetune.batch_size=8",
        "variants.small.8.finetune.epochs=9",
        "variants.grid.matrix={finetune.epochs: [3]}",
    )
    assert [stage[1].get("epochs") for stage in chain(loaded, "small")] == [2.0, None, None]
    assert chain(loaded, "small")[1][1] == {"embeddings": False}
    assert chain(loaded, "teacher")[0][1] == {"epochs": 4.0, "batch_size": 8}
    assert chain(loaded, "small.8")[0][1]["epochs"] == 9.0
    assert [variant.name for variant in loaded.variants][-1] == "grid[epochs=3]"


def test_later_overrides_win(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, STUDY, "defaults.finetune={epochs: 1}", "defaults.finetune.epochs=2", "seeds=[1]", "seeds=[2]"
    )
    assert loaded.study.seeds == (2,)
    assert chain(loaded, "teacher")[0][1] == {"epochs": 2.0}


def test_a_matrix_keeps_what_is_overridden_in_its_origin(tmp_path: Path) -> None:
    loaded = load(tmp_path, STUDY, "variants.small.finetune.batch_size=4")
    assert {chain(loaded, variant.name)[0][1].get("batch_size") for variant in loaded.variants} == {None, 4}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", "--set seeds: not an override; given 'seeds'; allowed: PATH=VALUE"),
        ("=1", "--set =1: not an override; given '=1'; allowed: PATH=VALUE"),
        ("a..b=1", "--set a..b=1: the path has an empty part; given '.b'"),
        ("seeds=[1", "--set seeds=[1: not valid YAML: while parsing a flow sequence, did not find expected ',' or ']'"),
        ("seeds={a: 1, a: 2}", "--set seeds={a: 1, a: 2}: the key stands twice in this mapping; first in line 1"),
        ("seeds=[0, 0]", "--set seeds=[0, 0]: seeds[1]: the seed stands twice; given 0"),
        ("name.first=x", "--set name.first=x: `name` is not a mapping; given 'demo'"),
        ("tasks.sst3.max_length=4", "--set tasks.sst3.max_length=4: no such task; given 'sst3'; allowed: sst2, v1.1, v1; did you mean 'sst2'?"),
        ("tasks[3].max_length=4", "--set tasks[3].max_length=4: no such position; given 3; allowed: 0 to 2"),
        ("seeds.first=1", "--set seeds.first=1: a list takes a position in brackets; given 'first'; allowed: [0]"),
        ("tasks.sst2.max_length=1", "--set tasks.sst2.max_length=1: tasks[0].max_length: must be at least 4; given 1"),
        ("defaults.finetune.epochs=-1", "--set defaults.finetune.epochs=-1: defaults.finetune.epochs: must be greater than 0; given -1"),
        ("variants.smal.finetune.epochs=1", "--set variants.smal.finetune.epochs=1: no such variant; given 'smal'; allowed: teacher, small, small.8, grid; did you mean 'small'?"),
        ("variants.teacher.quantize.scheme=x", "--set variants.teacher.quantize.scheme=x: variants.teacher.set[\"quantize.scheme\"]: the chain has no such stage; given 'quantize'; allowed: finetune, evaluate"),
        ("variants.grid.finetune.epochs=3", "--set variants.grid.finetune.epochs=3: variants.grid.set[\"finetune.epochs\"]: has no effect: a path of `matrix` gives the same field"),
        ("variants.teacher=quantize", "--set variants.teacher=quantize: variants.teacher: must be a list of stages, or a mapping with `stages` or `from`; given 'quantize'"),
        ("teacher=null", "--set teacher=null: teacher: must be a mapping; given nothing"),
    ],
)  # fmt: skip
def test_refused_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        load(tmp_path, STUDY, override)
    assert str(caught.value) == message


def test_lines_stay_right_where_a_variant_takes_its_long_form(tmp_path: Path) -> None:
    text = HEAD + "variants:\n  a:\n    - finetune:\n        epochs: 0\n"
    with pytest.raises(StudyFileError) as caught:
        load(tmp_path, text, "variants.a.finetune.batch_size=0")
    assert str(caught.value).replace(str(tmp_path / "study.yaml"), "") == (
        '--set variants.a.finetune.batch_size=0: variants.a.set["finetune.batch_size"]: must be at least 1; given 0\n'
        ":7: variants.a.stages[0].finetune.epochs: must be greater than 0; given 0"
    )


def test_nothing_chosen_is_everything(tmp_path: Path) -> None:
    loaded = load(tmp_path, STUDY)
    assert select(loaded) == loaded


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["teacher"], ["teacher"]),
        (["*"], ["teacher", "small", "small.8"]),
        (["small*", "teacher"], ["teacher", "small", "small.8"]),
        (["sma??"], ["small"]),
        (["grid[epochs=2,*"], []),
        (["grid[epochs=2,embeddings=true]"], []),
    ],
)
def test_variants_by_pattern(tmp_path: Path, only: list[str], expected: list[str]) -> None:
    chosen = [variant.name for variant in select(load(tmp_path, STUDY), only=only).variants]
    assert [name for name in chosen if "[" not in name] == expected
    if only == ["grid[epochs=2,*"]:
        assert chosen == ["grid[epochs=2,embeddings=true]", "grid[epochs=2,embeddings=false]"]
    if only[0].startswith("grid["):
        assert all(name.startswith("grid[epochs=2") for name in chosen)


def test_the_name_of_a_matrix_is_all_of_it(tmp_path: Path) -> None:
    assert len(select(load(tmp_path, STUDY), only=["grid"]).variants) == 4


def test_tasks_and_seeds(tmp_path: Path) -> None:
    study = select(load(tmp_path, STUDY), tasks=["v1", "sst2"], seeds=[2, 0]).study
    assert [task.name for task in study.tasks] == ["sst2", "v1"]
    assert study.seeds == (0, 2)
    assert select(load(tmp_path, STUDY), tasks=["sst2"]).study.table.metrics == {"sst2": ("accuracy",)}


def test_what_matches_nothing_is_refused_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError) as caught:
        select(load(tmp_path, STUDY), only=["small", "techer"], tasks=["sst"], seeds=[7])
    assert str(caught.value).replace(str(tmp_path / "study.yaml"), "") == (
        ": --only: no such variant; given 'techer'; allowed: teacher, small, small.8, grid[epochs=1,embeddings=true], "
        "grid[epochs=1,embeddings=false], grid[epochs=2,embeddings=true], grid[epochs=2,embeddings=false]; "
        "did you mean 'teacher'?\n"
        ": --tasks: no such task; given 'sst'; allowed: sst2, v1.1, v1; did you mean 'sst2'?\n"
        ": --seeds: no such seed; given '7'; allowed: 0, 1, 2"
    )

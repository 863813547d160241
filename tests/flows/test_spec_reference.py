"""The reference page of the study file says what the models say."""

import re
from pathlib import Path

from compression.data.config import FilesConfig, TaskConfig
from compression.data.glue import GLUE_TASKS
from flows.model_fields import fields_of
from flows.overrides import select
from flows.spec import Study, TableConfig, TeacherConfig, VariantConfig
from flows.study_file import load_study
from tasks.stages.registry import stages

_PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "study_file.md").read_text(encoding="utf-8")


def test_every_field_task_and_stage_is_on_the_page() -> None:
    named = set(re.findall(r"`([a-z0-9_]+)`", _PAGE))
    models = (Study, TeacherConfig, VariantConfig, TableConfig, TaskConfig, FilesConfig)
    fields = {name for model in models for name in fields_of(model)}
    assert not {*fields, *GLUE_TASKS, *stages()} - named


def test_the_example_and_the_overrides_work(tmp_path: Path) -> None:
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL) if block.startswith("name:"))
    path = tmp_path / "study.yaml"
    path.write_text(example)
    overrides = [
        given.strip("'") for given in re.findall(r"--set (?!PATH)('[^']*'|\S+=\S+)", _PAGE.partition("## Errors")[0])
    ]
    assert len(overrides) == 7
    for override in overrides:
        load_study(path, [override])
    loaded = load_study(path, ["table.baseline=temperature[temperature=2]"])
    assert loaded.teacher_variant == "teacher"
    assert [variant.name for variant in select(loaded, only=["temperature"]).variants] == [
        f"temperature[temperature={value}]" for value in (1, 2, 4)
    ]

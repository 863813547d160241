"""The JSON Schema takes what the loader takes, and refuses what a study cannot say."""

from pathlib import Path
from typing import Any

import pytest
from spec_stages import HEAD, REGISTRY, load

from flows.json_schema import study_schema
from flows.yaml_document import read_document

GOOD = """\
name: demo
description: d
teacher: {model: bert, revision: main, finetune: {epochs: 1}, seed: 0}
tasks:
  - sst2
  - name: mine
    files: {train: a.csv, evaluation: b.csv}
    text: [a, b]
    labels: [x, 1]
    limit_train: 10
seeds: [0, 1]
defaults:
  finetune: {learning_rate: 1e-4}
  task_distill: {student: bert-tiny}
  quantize:
variants:
  teacher: [finetune]
  layers: [{finetune: {student: {layers: [0, 2]}}}]
  general: {stages: [{general: {student: bert-tiny, corpus: c, extras: {a: 1}}}, finetune:, quantize]}
  distilled: {stages: [task_distill], description: x}
  grid: {from: distilled, matrix: {"*.epochs": [1, 2]}, then: [{quantize: {embeddings: false}}]}
  set: {from: distilled, set: {task_distill.student.layers: [1], "task_distill[0].epochs": 3}}
  less: {from: grid, without: [quantize]}
table: {baseline: layers, teacher: null, metrics: {sst2: [accuracy]}, sort: [-bytes]}
"""


def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = study_schema(REGISTRY)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_a_good_study_passes_both(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD.replace("finetune:, ", "finetune, "))
    data = read_document(loaded.path).data
    assert [error.message for error in validator().iter_errors(data)] == []
    dumped = loaded.study.model_dump(mode="json")
    assert [error.message for error in validator().iter_errors(dumped) if list(error.path)[:1] != ["variants"]] == []


@pytest.mark.parametrize(
    "text",
    [
        "name: demo\n",
        HEAD,
        HEAD + "variants: {a: finetune}\n",
        HEAD + "variants: {a: [quantise]}\n",
        HEAD + "variants: {a: [{finetune: {epoch: 1}}]}\n",
        HEAD + "variants: {a: [{finetune: {}, quantize: {}}]}\n",
        HEAD + "variants: {a: {stages: [finetune], from: b}}\n",
        HEAD + "variants: {a: {without: [finetune]}}\n",
        HEAD + "variants: {a: {stages: [finetune], set: {finetun.epochs: 1}}}\n",
        HEAD + "variants: {a: {stages: [finetune], matrix: {finetune.epochs: []}}}\n",
        HEAD + "variants: {a/b: [finetune]}\n",
        HEAD + "variants: {a: [{finetune: {student: bert-tinny}}]}\n",
        HEAD + "variants: {a: [finetune]}\ndefaults: {finetun: {}}\n",
        HEAD + "variants: {a: [finetune]}\ndefaults: {finetune: {epochs: 0}}\n",
        HEAD + "variants: {a: [finetune]}\nseeds: [-1]\n",
        HEAD.replace("sst2", "sst3") + "variants: {a: [finetune]}\n",
        HEAD.replace("model: bert-base-uncased", "model: m, finetune: {epoch: 1}") + "variants: {a: [finetune]}\n",
        HEAD + "variants: {a: [finetune]}\ntable: {base: a}\n",
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    assert not validator().is_valid(read_document(path).data)


def test_every_field_is_described() -> None:
    schema = study_schema(REGISTRY)
    undescribed = []

    def walk(place: str, part: Any) -> None:
        if isinstance(part, dict):
            for name, field in part.get("properties", {}).items():
                # a stage's one key is described by the configuration it refers to
                refers = "$ref" in str(field) and name in REGISTRY
                if not (field.get("description") or refers):
                    undescribed.append(f"{place}.{name}")
            for key, inner in part.items():
                walk(f"{place}.{key}", inner)
        elif isinstance(part, list):
            for index, inner in enumerate(part):
                walk(f"{place}[{index}]", inner)

    walk("", schema)
    assert undescribed == []
    assert all(definition.get("description") for definition in schema["$defs"].values())


def test_stage_fields_are_never_required_but_a_users_files_are() -> None:
    definitions = study_schema(REGISTRY)["$defs"]
    assert "required" not in definitions["GeneralConfig"]
    assert definitions["FilesConfig"]["required"] == ["train"]

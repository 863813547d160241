"""One stage, run by several real processes as the settings ask for it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_models import WORDS, tiny_encoder_folder

from compression.data.corpus import fingerprint
from compression.errors import UserError
from compression.pretraining.config import PretrainConfig
from tasks.artifact_store import ArtifactStore
from tasks.child_processes import processes_of, run_in_process
from tasks.execution import Execution
from tasks.invocation import Input, StageInvocation, implementation_of
from tasks.model_source import model_digest
from tasks.settings import Settings
from tasks.stages.base import Stage
from tasks.stages.pretrain import Pretrain
from tasks.stages.quantize import Quantize

EXECUTION = Execution(study="tiny")


def invocation(folder: Path, stage: Stage | None = None, **changes) -> StageInvocation:
    random = np.random.default_rng(0)
    (folder / "texts.txt").write_text("\n".join(" ".join(random.choice(WORDS[5:], 12)) for _ in range(60)))
    encoder = tiny_encoder_folder(folder / "encoder")
    given = {"files": "texts.txt", "validation_fraction": 0.2}
    settings = {"batch_size": 5, "max_length": 16, "learning_rate": 1e-2, "dropout": 0, "steps": 9, **changes}
    config = PretrainConfig(corpus=given, **settings)
    return StageInvocation(
        implementation=implementation_of(stage or Pretrain()),
        config=config.model_dump(mode="json"),
        inputs={"model": Input(digest=model_digest(encoder), folder=encoder)},
        corpus=fingerprint(config.corpus, [folder]),
        seed=0,
        roots=(folder,),
        label="pretrain tiny",
    )


def settings(folder: Path, processes: int) -> Settings:
    home = folder / f"home-{processes}"
    return Settings(home=home, device="cpu", precision="fp32", threads=1, processes=processes)


def test_only_stages_that_can_be_shared_are(tmp_path):
    assert processes_of(invocation(tmp_path), settings(tmp_path, 3)) == 3
    assert processes_of(invocation(tmp_path, Quantize()), settings(tmp_path, 3)) == 1


@pytest.mark.slow
def test_a_stage_of_two_processes_leaves_what_one_would(tmp_path):
    asked = invocation(tmp_path)
    products = {}
    for count in (1, 2):
        here = settings(tmp_path, count)
        reference = run_in_process(asked, EXECUTION, here)
        products[count] = (reference, ArtifactStore(here.store_folder).verify(reference.digest))
        assert not list((here.store_folder / "tmp").iterdir())
        assert not list((here.home_folder / "work").iterdir())
    (one, alone), (two, together) = products[1], products[2]
    assert one.key == two.key
    assert two.meta["training"]["tokens"] == one.meta["training"]["tokens"]
    assert two.meta["final"] == pytest.approx(one.meta["final"], rel=1e-3)
    weights = load_file(alone / "model.safetensors")
    for name, tensor in load_file(together / "model.safetensors").items():
        np.testing.assert_allclose(tensor, weights[name], rtol=1e-2, atol=1e-4)
    for first, second in zip(*(read(folder) for folder in (alone, together)), strict=True):
        assert first == pytest.approx(second, rel=1e-3)


@pytest.mark.slow
def test_an_error_of_every_process_is_told_once(tmp_path):
    with pytest.raises(UserError, match="max_length 64 is more than the model has positions"):
        run_in_process(invocation(tmp_path, max_length=64), EXECUTION, settings(tmp_path, 2))


def read(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]

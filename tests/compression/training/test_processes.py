"""Several processes that train one model together: what they compute is what one process would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from compression.control import Control
from compression.data.encoding import Encoded
from compression.errors import Interrupted
from compression.runtime import Runtime
from compression.training.batches import EncodedRows, StepBatches
from compression.training.config import TrainingConfig
from compression.training.loop import train
from compression.training.precision import torch_threads

# 13 rows in steps of 5: with two processes and two micro-batches each, parts of 2, 2, 1 and of 2, 1, so that a process
# is left without rows of its own.
CONFIG = TrainingConfig(
    epochs=3, batch_size=5, accumulation_steps=2, learning_rate=0.01, evaluations_per_epoch=1, checkpoint_seconds=0
)


class Network(torch.nn.Module):
    """Small, quick to import, with a layer that no loss uses, as poolers are."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(32, 16)
        self.linear = torch.nn.Linear(16, 2)
        self.unused = torch.nn.Linear(2, 2)

    def forward(self, input_ids, attention_mask):
        hidden = self.embedding(input_ids) * attention_mask[..., None]
        return self.linear(hidden.sum(dim=1))


def rows() -> Encoded:
    random = np.random.default_rng(0)
    ids = [random.integers(1, 32, length).astype(np.int32) for length in random.integers(3, 15, 13)]
    labels = np.array([row[0] % 2 for row in ids], dtype=np.int64)
    return Encoded(ids, None, labels, np.array([len(row) for row in ids], dtype=np.int64))


def loss_function(model, batch):
    logits = model(batch["input_ids"], batch["attention_mask"])
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"])
    return loss, {"doubled": 2 * loss}


def run(folder: Path, control: Control | None = None) -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    model = Network()
    with torch_threads(1):
        train(
            model,
            loss_function,
            EncodedRows(rows(), 0),
            config=CONFIG,
            seed=1,
            runtime=Runtime(),
            work=folder,
            control=control or Control(),
            history=folder / "history.jsonl",
            evaluate=lambda trained: trained.linear.weight[0, 0].item(),
        )
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def history(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """What two real processes left behind."""
    folder = tmp_path_factory.mktemp("together")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, __file__, str(folder)], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_train_as_one(together, tmp_path):
    alone = run(tmp_path)
    for left in ("undisturbed", "stopped"):
        first, second = (np.load(together / f"{left}-{index}.npz") for index in (0, 1))
        for name, weights in alone.items():
            assert (first[name] == second[name]).all(), name
            np.testing.assert_allclose(first[name], weights, rtol=1e-4, atol=1e-6)
        for one, other in zip(history(together / left), history(tmp_path), strict=True):
            assert one == pytest.approx(other, rel=1e-4)
    assert (together / "undisturbed" / "history.jsonl").read_bytes() == (together / "stopped" / "history.jsonl").read_bytes()  # fmt: skip


def test_a_stop_that_one_process_is_asked_for_stops_both(together):
    assert [(together / f"interrupted-{index}").read_text() for index in (0, 1)] == ["5", "5"]


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_processes_part_the_rows_of_every_step(processes):
    data = EncodedRows(rows(), 0)
    shared = [StepBatches(data, CONFIG, seed=0, processes=processes, process=index) for index in range(processes)]
    for step in range(len(shared[0])):
        made = [batches[step] for batches in shared]
        assert len({len(parts) for parts in made}) == 1, "every process has as many parts"
        counted = [part for parts in made for part in parts if part.share > 0]
        assert sorted(np.concatenate([part.rows for part in counted])) == sorted(shared[0].rows(step))
        assert sum(part.share for part in counted) == pytest.approx(1)
        assert all(len(part.tensors["input_ids"]) == len(part.rows) for parts in made for part in parts)


def child(folder: Path) -> None:
    index = int(os.environ["RANK"])
    for name in ("undisturbed", "stopped"):
        (folder / name).mkdir(exist_ok=True)
    np.savez(folder / f"undisturbed-{index}.npz", **run(folder / "undisturbed"))
    looks = iter(range(1000))
    stop = Control(should_stop=lambda: next(looks) == 5 and index == 1)
    try:
        run(folder / "stopped", stop)
    except Interrupted:
        (folder / f"interrupted-{index}").write_text(str(next(looks) - 1))
    np.savez(folder / f"stopped-{index}.npz", **run(folder / "stopped"))


if __name__ == "__main__":
    child(Path(sys.argv[1]))

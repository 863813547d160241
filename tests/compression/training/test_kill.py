"""A training process that is really killed, and one that goes on from what it left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from compression.control import Control, Progress
from compression.data.encoding import Encoded
from compression.runtime import Runtime
from compression.training.batches import EncodedRows
from compression.training.config import TrainingConfig
from compression.training.loop import train
from compression.training.precision import torch_threads


class Network(torch.nn.Module):
    """Small, quick to import, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(32, 64)
        self.dropout = torch.nn.Dropout(0.3)
        self.linear = torch.nn.Linear(64, 2)

    def forward(self, input_ids, attention_mask):
        hidden = self.dropout(self.embedding(input_ids)) * attention_mask[..., None]
        return self.linear(hidden.mean(dim=1))


def rows() -> Encoded:
    random = np.random.default_rng(0)
    ids = [random.integers(1, 32, length).astype(np.int32) for length in random.integers(3, 15, 60)]
    labels = np.array([row[0] % 2 for row in ids], dtype=np.int64)
    return Encoded(ids, None, labels, np.array([len(row) for row in ids], dtype=np.int64))


def loss_function(model, batch):
    logits = model(batch["input_ids"], batch["attention_mask"])
    return torch.nn.functional.cross_entropy(logits, batch["labels"]), {}


class Announce(Progress):
    def advance(self, amount=1, *, tokens=0):
        print("step", flush=True)  # noqa: T201


def run(folder: Path, progress: Progress) -> dict[str, bytes]:
    torch.manual_seed(0)
    model = Network()
    with torch_threads(1):
        train(
            model,
            loss_function,
            EncodedRows(rows(), 0),
            config=TrainingConfig(
                epochs=8, batch_size=4, accumulation_steps=2, learning_rate=0.01, checkpoint_seconds=0
            ),
            seed=1,
            runtime=Runtime(),
            work=folder,
            control=Control(progress),
            history=folder / "history.jsonl",
            evaluate=lambda trained: trained.linear.weight[0, 0].item(),
        )
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_sigkill_in_the_middle_of_an_epoch(tmp_path):
    steps = 20
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    killed.mkdir()
    undisturbed.mkdir()
    child = subprocess.Popen(
        [sys.executable, __file__, str(killed)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    for _ in range(steps):
        assert child.stdout.readline() == b"step\n"
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    after_kill = (killed / "history.jsonl").read_text().splitlines()
    assert (killed / "training.safetensors").exists()
    assert steps // 2 <= len(after_kill) < 60  # a record every second of 120 steps

    class Count(Progress):
        done = 0

        def start(self, description, total, *, unit="step", done=0):
            self.done = done

    count = Count()
    weights = run(killed, count)
    assert count.done >= steps - 1  # it went on, rather than beginning again
    assert weights == run(undisturbed, Progress())
    assert (killed / "history.jsonl").read_bytes() == (undisturbed / "history.jsonl").read_bytes()


if __name__ == "__main__":
    run(Path(sys.argv[1]), Announce())

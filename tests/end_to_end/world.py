"""A tiny real world: a small data set, a study file, a home folder, and the real command line on them."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

GOOD = ["good", "fine", "great", "happy", "lovely", "nice", "sunny", "warm"]
BAD = ["bad", "awful", "sad", "nasty", "ugly", "rainy", "cold", "grim"]
OTHER = ["the", "a", "this", "that", "day", "film", "book", "walk", "was", "is", "very", "quite", "so", "then", "and"]
ROOT = Path(__file__).parents[2]

STUDY = """
name: {name}
teacher: {{model: encoder, finetune: {{epochs: 4}}}}
tasks:
  - {{name: mood, files: {{train: mood.csv}}, evaluation_fraction: 0.25, selection_fraction: 0.2, max_length: 16}}
seeds: [0, 1]
defaults:
  finetune: {{learning_rate: 0.01, batch_size: 16, epochs: {epochs}, checkpoint_seconds: 0}}
  task_distill: {{learning_rate: 0.003, batch_size: 16, epochs: {epochs}, student: {{layers: [0]}}, checkpoint_seconds: 0}}
  evaluate: {{latency_repeats: 5, latency_warmup: 1, latency_length: 8}}
variants:
  teacher: [finetune]
  small: [{{finetune: {{student: {{layers: [0]}}}}}}]
  distilled: [task_distill]
  int8: {{from: distilled, then: [quantize]}}
table: {{baseline: small}}
"""


class World:
    """One home folder and one study folder; runs the real command line in processes of its own."""

    def __init__(
        self, folder: Path, encoder: Path, api: str, *, rows: int = 240, epochs: float = 3, name: str = "tiny"
    ):
        self.folder, self.home = folder, folder / "home"
        self.source = ROOT
        self.study = folder / "study" / "tiny.yaml"
        self.study.parent.mkdir(parents=True)
        (self.study.parent / "encoder").symlink_to(encoder)
        self.study.write_text(STUDY.format(name=name, epochs=epochs))
        generator = random.Random(0)
        lines = ["text,label"]
        for number in range(rows):
            label, words = generator.choice([("good", GOOD), ("bad", BAD)])
            sentence = [
                *generator.choices(OTHER, k=4),
                *generator.choices(words, k=2),
                *generator.choices(GOOD + BAD, k=1),
            ]
            generator.shuffle(sentence)
            lines.append(f"{' '.join(sentence)} {OTHER[number % len(OTHER)]},{label}")
        (self.study.parent / "mood.csv").write_text("\n".join(lines) + "\n")
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("BERTPRESS_", "PREFECT_", "MLFLOW_"))
            },
            "BERTPRESS_HOME": str(self.home),
            "BERTPRESS_DEVICE": "cpu",
            "BERTPRESS_PRECISION": "fp32",
            "BERTPRESS_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PREFECT_API_URL": api,
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        program = "import sys; sys.argv[0] = 'bertpress'; from flows.command_line import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=self.source,
            env={**self.environment, "PYTHONPATH": str(self.source), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def bertpress(self, *arguments: str, expect: int = 0, **environment: str) -> str:
        process = self.start(*arguments, **environment)
        output, errors = process.communicate(timeout=900)
        assert process.returncode == expect, f"exit {process.returncode}\n{output}\n{errors}"
        return output if expect == 0 else output + errors

    def run(self, *arguments: str, **environment: str) -> dict:
        return json.loads(self.bertpress("run", str(self.study), "--json", *arguments, **environment))

    def plan(self, *arguments: str) -> list[dict]:
        return json.loads(self.bertpress("plan", str(self.study), "--json", *arguments))

    def mlflow_runs(self, filter_string: str = "") -> list:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.home / 'mlflow.db'}")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(experiments, filter_string, max_results=1000))

    def wait_for(self, condition, seconds: float = 600.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.05)
        raise AssertionError("waited in vain")

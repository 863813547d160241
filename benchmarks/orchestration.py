"""What planning, caching, Prefect and MLflow cost, without any training: `python -m benchmarks.orchestration`.

Every figure comes from a process of its own. The first run computes every stage, the others reuse all.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.trivial_stages import STAGES

_ROWS = "text,label\n" + "".join(f"row {number},{'ab'[number % 2]}\n" for number in range(40))


def write_study(folder: Path, stages: int) -> Path:
    """A study of `stages` stages: half of them trivial, half their evaluations, over a model folder of a few bytes.

    Args:
        folder: where to.
        stages: how many.

    Returns:
        The study file.
    """
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(b"")
    (folder / "rows.csv").write_text(_ROWS)
    path = folder / "study.yaml"
    path.write_text(
        "name: overhead\nteacher: {model: model, finetuned: true}\n"
        "tasks: [{name: rows, files: {train: rows.csv}}]\n"
        f"variants:\n  v: {{stages: [trivial], matrix: {{trivial.number: {list(range(stages // 2))}}}}}\n"
    )
    return path


def measure(study: Path, home: Path, action: str) -> dict[str, float]:
    """Seconds of one action in a process of its own.

    Args:
        study: study file.
        home: home folder.
        action: `plan` or `run`.

    Returns:
        `process`: from start to exit; `action`: of the action alone.
    """
    command = [sys.executable, "-m", "benchmarks.orchestration", "--child", action, str(study), str(home)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"process": time.perf_counter() - started, **json.loads(done.stdout.splitlines()[-1])}


def _child(action: str, study: Path, home: Path) -> None:
    started = time.perf_counter()
    from flows.project import open_project
    from tasks.settings import Settings

    project = open_project(study, Settings(home=home), stages=STAGES)
    if action == "plan":
        project.plan()
    else:
        from flows.running import run_project

        run_project(project)
    sys.stdout.write(json.dumps({"action": time.perf_counter() - started}) + "\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stages", type=int, default=200)
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        action, study, home = arguments.child
        _child(action, Path(study), Path(home))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = _figures(Path(folder), arguments.stages)
    for name, value in figures.items():
        print(f"{name:<48} {value:8.3f}")


def _figures(folder: Path, stages: int) -> dict[str, float]:
    study, home = write_study(folder / "study", stages), folder / "home"
    large = write_study(folder / "large", 1000)
    empty = write_study(folder / "empty", 2)
    measure(empty, folder / "empty home", "run")  # fills file caches
    first = measure(study, home, "run")
    one = [measure(empty, folder / "empty home", "run") for _ in range(3)]
    cached = [measure(study, home, "run") for _ in range(3)]
    planned = min(measure(large, folder / "large home", "plan")["process"] for _ in range(3))
    floor, hit = (min(run["process"] for run in runs) for runs in (one, cached))
    return {
        f"first run of {stages} stages, s": first["process"],
        f"cached run of {stages} stages, s": hit,
        "cached run of 2 stages (start of Prefect, MLflow), s": floor,
        "a cached stage, ms": 1000 * (hit - floor) / (stages - 2),
        "a first stage, ms": 1000 * (first["process"] - floor) / (stages - 2),
        "plan of 1,000 stages, s": planned,
    }


if __name__ == "__main__":
    main()

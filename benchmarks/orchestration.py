"""What planning, caching, Prefect and MLflow cost: `python -m benchmarks.orchestration [--quickstart]`.

Every figure comes from a process of its own; of repeated ones the quickest counts. Stages are trivial, the first run
computes all of them and the others reuse all. With `--quickstart`, the quickstart study is run too (minutes): what its
stages did not take of its time is orchestration.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.trivial_stages import STAGES
from flows.run_record import RunRecord, run_records
from tasks.settings import Settings

_QUICKSTART = Path(__file__).parents[1] / "studies" / "quickstart.yaml"
_BERTPRESS = [
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'bertpress'; from flows.command_line import main; main()",
]

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

    project = open_project(study, Settings(home=home), stages=STAGES)
    if action == "plan":
        project.plan()
    else:
        from flows.running import run_project

        run_project(project)
    sys.stdout.write(json.dumps({"action": time.perf_counter() - started}) + "\n")


def quickstart(home: Path) -> dict[str, float]:
    """Run the quickstart study, and again.

    Args:
        home: home folder; its databases should exist, and nothing of the study.

    Returns:
        Wall-clock seconds of both runs, seconds that the stages took, and the share of the rest in the first run.
    """
    first = _seconds("run", str(_QUICKSTART), home=home)
    again = _seconds("run", str(_QUICKSTART), home=home)
    [record] = [record for record in run_records(Settings(home=home), "quickstart") if not _is_cached(record)]
    stages = sum(node.seconds for node in record.nodes.values())
    return {
        "quickstart, s": first,
        "its stages alone, s": stages,
        "orchestration, % of the quickstart": 100 * (first - stages) / first,
        "cached quickstart, s": again,
    }


def _is_cached(record: RunRecord) -> bool:
    return all(node.cached for node in record.nodes.values())


def _seconds(*arguments: str, home: Path) -> float:
    """Seconds of a command from start to exit."""
    environment = {**os.environ, "BERTPRESS_HOME": str(home)}
    started = time.perf_counter()
    subprocess.run([*_BERTPRESS, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stages", type=int, default=200)
    parser.add_argument("--quickstart", action="store_true")
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        action, study, home = arguments.child
        _child(action, Path(study), Path(home))
        return
    with tempfile.TemporaryDirectory() as folder:
        _print(_figures(Path(folder), arguments.stages))
        if arguments.quickstart:
            _print(quickstart(Path(folder) / "empty home"))


def _print(figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        print(f"{name:<52} {value:8.3f}", flush=True)


def _figures(folder: Path, stages: int) -> dict[str, float]:
    study, home = write_study(folder / "study", stages), folder / "home"
    large = write_study(folder / "large", 1000)
    empty, empty_home = write_study(folder / "empty", 2), folder / "empty home"
    measure(empty, folder / "other home", "run")  # fills file caches
    new = measure(empty, empty_home, "run")
    one = [measure(empty, empty_home, "run") for _ in range(3)]
    first = measure(study, home, "run")
    cached = [measure(study, home, "run") for _ in range(3)]
    planned = min(measure(large, folder / "large home", "plan")["process"] for _ in range(3))
    floor, hit = (min(run["process"] for run in runs) for runs in (one, cached))
    making = new["process"] - floor
    return {
        "bertpress --help, s": min(_seconds("--help", home=home) for _ in range(3)),
        "cached run of 2 stages (start of Prefect, MLflow), s": floor,
        "more in a new home (making the databases), s": making,
        f"first run of {stages} stages, new home, s": first["process"],
        f"cached run of {stages} stages, s": hit,
        "a first stage, ms": 1000 * (first["process"] - floor - making) / (stages - 2),
        "a cached stage, ms": 1000 * (hit - floor) / (stages - 2),
        "plan of 1,000 stages, s": planned,
    }


if __name__ == "__main__":
    main()

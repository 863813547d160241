"""Reading and checking a study must be quick, so it imports nothing heavy."""

import subprocess
import sys
from pathlib import Path

from spec_stages import HEAD

_PROGRAM = """
import sys
from flows.json_schema import study_schema
from flows.overrides import select
from flows.study_file import load_study
from tasks.stages.registry import stages

select(load_study(sys.argv[1], ["seeds=[1]"]), only=["*"])
study_schema()
print(sorted(set(sys.modules) & {"torch", "transformers", "datasets", "numpy", "pandas", "mlflow", "prefect", "sklearn", "scipy"}))
print(sorted(stages()))
"""


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(HEAD + "variants: {teacher: [finetune], small: [{task_distill: {student: bert-tiny}}, quantize]}\n")
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path)], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    heavy, kinds = run.stdout.splitlines()
    assert heavy == "[]"
    assert "'evaluate', 'factorize', 'finetune'" in kinds

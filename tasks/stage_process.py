"""The process of one stage: `python -m tasks.stage_process`, order on standard input, answer on standard output."""

import ctypes
import json
import os
import signal
import sys
from typing import Any

from compression.errors import Interrupted, UserError
from tasks.execution import Execution, run_beside, run_stage
from tasks.invocation import StageInvocation
from tasks.process_group import is_first
from tasks.settings import Settings, use_settings
from tasks.stopping import stop_signals

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the stage that standard input orders, or take part in it; answer with its reference, or why there is none."""
    order = json.load(sys.stdin)
    _die_with(order["parent"])
    # Libraries print to standard output, which is ours for the answer.
    answer, sys.stdout = sys.stdout, sys.stderr
    settings = Settings.model_validate(order["settings"])
    use_settings(settings)
    with stop_signals():
        outcome = _outcome(order, settings)
    json.dump(outcome, answer)
    if outcome and not is_first():
        sys.exit(1)  # the first process, which waits for this one, will not get an answer


def _outcome(order: dict[str, Any], settings: Settings) -> dict[str, Any]:
    invocation = StageInvocation.model_validate(order["invocation"])
    try:
        if not is_first():
            run_beside(invocation, order["key"], settings)
            return {}
        reference = run_stage(invocation, order["key"], Execution.model_validate(order["execution"]), settings)
    except (Interrupted, KeyboardInterrupt):
        return {"interrupted": True}
    except UserError as error:
        return {"user_error": str(error)}
    return {"reference": reference.model_dump(mode="json")}


def _die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent, which a killed parent cannot do itself (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent process has gone")


if __name__ == "__main__":
    main()

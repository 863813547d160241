"""Progress for people: a bar on a terminal, a line now and then elsewhere; and points for MLflow either way."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from compression.control import Progress

_LINE_SECONDS = 15.0


class StageProgress(Progress):
    """Shows one stage's progress with its rate and time left, and passes measured values on.

    Example:
        >>> seen = []
        >>> progress = StageProgress("finetune", log=lambda step, metrics: seen.append((step, dict(metrics))))
        >>> progress.log(3, {"loss": 0.5})
        >>> seen
        [(3, {'loss': 0.5})]
    """

    def __init__(
        self, label: str, log: Callable[[int, Mapping[str, float]], None] = lambda _step, _metrics: None
    ) -> None:
        self._label = label
        self._log = log
        self._bar: Any = None
        self._task: Any = None
        self._description = ""
        self._unit = ""
        self._total = self._done = self._tokens = self._done_before = 0
        self._started = self._shown = 0.0

    def start(self, description: str, total: int, *, unit: str = "step", done: int = 0) -> None:
        """See `Progress.start`."""
        self.finish()
        self._description, self._unit, self._total, self._done, self._done_before = description, unit, total, done, done
        self._tokens, self._started = 0, time.monotonic()
        self._shown = self._started
        if sys.stderr.isatty():
            self._bar = _terminal_bar()
            self._task = self._bar.add_task(
                f"{self._label}: {description}", total=total or None, completed=done, rate=""
            )
            self._bar.start()

    def advance(self, amount: int = 1, *, tokens: int = 0) -> None:
        """See `Progress.advance`."""
        self._done += amount
        self._tokens += tokens
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=self._rate(now))
        elif now - self._shown > _LINE_SECONDS:
            self._shown = now
            text = f"{self._done} {self._unit}s, {self._rate(now)}"
            if self._total:
                left = (self._total - self._done) * (now - self._started) / max(1, self._done - self._done_before)
                text = f"{self._done}/{self._total} {self._unit}s, {self._rate(now)}, {left:.0f} s left"
            sys.stderr.write(f"{self._label}: {self._description} {text}\n")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Progress.log`."""
        self._log(step, metrics)

    def finish(self) -> None:
        """See `Progress.finish`."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def _rate(self, now: float) -> str:
        seconds = max(now - self._started, 1e-9)
        steps = f"{(self._done - self._done_before) / seconds:.1f} {self._unit}s/s"
        return f"{steps}, {self._tokens / seconds:,.0f} tokens/s" if self._tokens else steps


def _terminal_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    return RichProgress(
        *columns, TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )

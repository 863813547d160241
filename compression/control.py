"""What a long computation is given from outside: where to report progress, and whether to stop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from compression.errors import Interrupted


class Progress:
    """Receives progress; this base ignores it. The command line draws a bar, the tasks layer logs to MLflow."""

    def start(self, description: str, total: int, *, unit: str = "step", done: int = 0) -> None:
        """Begin a phase of `total` units, `done` of which were finished before; total 0 is unknown."""

    def advance(self, amount: int = 1, *, tokens: int = 0) -> None:
        """Report `amount` more units done, over `tokens` real (not padding) tokens."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report measured values at a step; the same step may come again after a resume."""

    def finish(self) -> None:
        """End the current phase."""


class PrefixedProgress(Progress):
    """Passes progress on with a prefix before the names of measured values: one of several phases of a stage.

    Args:
        progress: where to pass it on to.
        prefix: put before each name.
    """

    def __init__(self, progress: Progress, prefix: str) -> None:
        self._progress, self._prefix = progress, prefix

    @staticmethod
    def name(prefix: str, given: str) -> str:
        """The prefixed name of a value; a place on the curve keeps its own.

        Args:
            prefix: put before the name.
            given: name of the value.

        Returns:
            The name.

        Example:
            >>> PrefixedProgress.name("first_", "loss"), PrefixedProgress.name("first_", "epoch")
            ('first_loss', 'epoch')
        """
        return given if given in {"step", "epoch"} else prefix + given

    def start(self, description: str, total: int, *, unit: str = "step", done: int = 0) -> None:
        """See `Progress.start`."""
        self._progress.start(description, total, unit=unit, done=done)

    def advance(self, amount: int = 1, *, tokens: int = 0) -> None:
        """See `Progress.advance`."""
        self._progress.advance(amount, tokens=tokens)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Progress.log`."""
        self._progress.log(step, {self.name(self._prefix, given): value for given, value in metrics.items()})

    def finish(self) -> None:
        """See `Progress.finish`."""
        self._progress.finish()


@dataclass(frozen=True)
class Control:
    """The handle that a stage passes down to whatever runs long.

    Example:
        >>> Control().check()  # nobody asked to stop
    """

    progress: Progress = field(default_factory=Progress)
    should_stop: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Raise when a stop was asked for. Call it between steps, at least twice a second.

        Raises:
            Interrupted: a stop was asked for.
        """
        if self.should_stop():
            raise Interrupted("stopped on request")

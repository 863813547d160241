"""Ctrl-C and SIGTERM: stop between two steps, leave a checkpoint to resume from, mark runs as killed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_stop = threading.Event()
_steps_are_checked = threading.Event()


def stop_requested() -> bool:
    """Whether a stop was asked for.

    Returns:
        True from the first signal on.

    Example:
        >>> stop_requested()
        False
    """
    return _stop.is_set()


@contextmanager
def stopping_between_steps() -> Iterator[None]:
    """While inside, the first signal only raises the flag: the code within looks at it between steps.

    Yields:
        Nothing.
    """
    _steps_are_checked.set()
    try:
        yield
    finally:
        _steps_are_checked.clear()


@contextmanager
def stop_signals() -> Iterator[None]:
    """Handle SIGINT and SIGTERM as stop requests; elsewhere than in the main thread, do nothing.

    A second signal raises at once.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _stop.clear()
    previous = {number: signal.signal(number, _handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _stop.clear()


def _handle(_number: int, _frame: FrameType | None) -> None:
    again = _stop.is_set()
    _stop.set()
    if again or not _steps_are_checked.is_set():
        raise KeyboardInterrupt

"""Errors that a user can mend: the command line prints their text alone, without a stack."""

from collections.abc import Iterable


class UserError(Exception):
    """What was wrong, where, what was given and what is allowed. Base of every error meant for a user."""


class DataError(UserError):
    """A data set that is missing or malformed; names the file, the row and the column."""


class CheckpointError(UserError):
    """A model folder that is missing, damaged, foreign, or of the wrong kind; names the folder and the reason."""


class Interrupted(KeyboardInterrupt):
    """A stop was asked for and honoured between two steps; the work folder holds what is needed to resume.

    A `KeyboardInterrupt`, so that nothing on the way up mistakes it for a failure of the stage.
    """


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """End of an error message that suggests the nearest valid name.

    Args:
        given: the name that was given.
        allowed: the valid names.

    Returns:
        `; did you mean 'NAME'?`, or nothing when no name is near.

    Example:
        >>> did_you_mean("epoch", ["epochs", "batch_size"])
        "; did you mean 'epochs'?"
        >>> did_you_mean("colour", ["epochs"])
        ''
    """
    import difflib

    by_folded = {name.casefold(): name for name in allowed}
    near = difflib.get_close_matches(given.casefold(), by_folded, n=1)
    return f"; did you mean {by_folded[near[0]]!r}?" if near else ""

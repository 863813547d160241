"""Errors that a user can mend: the command line prints their text alone, without a stack."""


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

"""Errors that are meant for the person at the terminal.

Every mistake a user can make ends in a `ReverieError` whose message says what was wrong, where, and what to do.
The command line prints that sentence without a stack trace and exits with status 1.
"""


class ReverieError(Exception):
    """Base class: `str(error)` is one clear sentence for the user."""


class ConfigError(ReverieError):
    """A setting is unknown, of the wrong type, or contradicts another one."""


class EnvError(ReverieError):
    """An environment is unknown, unsupported, or returned something that it must not."""


class ObservationError(ReverieError, ValueError):
    """An observation that an agent should act on does not fit its spaces."""


class ReplayError(ReverieError):
    """The replay cannot be opened, written, or sampled."""


class DataError(ReverieError):
    """Recorded episodes cannot be read, or cannot be written in a format."""


class CheckpointError(ReverieError):
    """A checkpoint is missing or damaged."""


class RunError(ReverieError):
    """A run folder is in use, or is not a run folder."""

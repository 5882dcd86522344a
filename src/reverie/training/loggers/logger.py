"""The interface of a logger."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

Status = Literal["finished", "interrupted", "failed"]
"""End of a run."""


@dataclass(frozen=True)
class RunInfo:
    """Description of a run for its loggers."""

    name: str
    path: Path
    """The run folder."""
    env: str
    preset: str | None = None
    variant: str | None = None
    command: str | None = None
    """As typed in a shell; None for a run that was started from Python."""
    resumed_at: int | None = None
    """Agent steps of the checkpoint that the run continues from; None for a new run."""
    is_quiet: bool = False

    def describe(self) -> dict[str, str]:
        """Return what is known of the run, by name, for a tracker to show."""
        names = ("path", "env", "preset", "variant", "command")
        return {name: str(value) for name in names if (value := getattr(self, name)) is not None}


class Logger(ABC):
    """One output of a run. A subclass must have `scalars`; an exception in a method ends the logger, not the run.

    A row may come in parts: several calls of `scalars` with the same step, each with other names.
    """

    name: ClassVar[str] = ""
    """Its key in `trackers.json`; empty takes the name of the class."""

    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str | None:  # noqa: B027
        """Begin, or continue under an earlier id.

        Args:
            run: description of the run.
            config: all settings, nested, as JSON.
            resume_id: what this method returned when the run was started before; None for a new run.

        Returns:
            The tracker's id of the run, of letters, digits, `_`, `-` and `.`; None if it has none.
        """

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics by name at an agent step. Names that begin with `pretraining/` are counted in updates."""

    def video(self, step: int, name: str, path: Path) -> None:  # noqa: B027
        """Log a GIF."""

    def close(self, status: Status) -> None:  # noqa: B027
        """Send what is pending, and end."""

"""Formats of recorded episodes by name, and the one that a path is in."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from reverie.config import did_you_mean
from reverie.data import folder, lerobot, minari, npz, replay, vd4rl
from reverie.data.episodes import Episode, Recording
from reverie.errors import DataError
from reverie.specs import EnvSpec

Write = Callable[[Path, EnvSpec, Iterable[Episode]], None]


@dataclass(frozen=True)
class Format:
    """A way to store episodes."""

    name: str
    detect: Callable[[Path], bool]
    open: Callable[[Path], Recording]
    write: Write | None = None
    """Writes into an empty folder; None where a format is only read."""
    losses: Callable[[EnvSpec], str] = lambda _: ""
    """Says in a sentence what a written recording does not hold; raises DataError where it cannot be written."""
    holds_first: bool = True
    """True if it has a place for what led to an episode's first row: nothing, but where a long episode was split."""


FORMATS = {
    each.name: each
    for each in (
        Format("replay", replay.detect, replay.open_replay),
        Format("minari", minari.detect, minari.open_minari, minari.write_minari, minari.losses, holds_first=False),
        Format("lerobot", lerobot.detect, lerobot.open_lerobot),
        Format("folder", folder.detect, folder.open_folder, folder.write_folder, folder.losses, holds_first=False),
        Format("npz", npz.detect, npz.open_npz, npz.write_npz),
        Format("vd4rl", vd4rl.detect, vd4rl.open_vd4rl, vd4rl.write_vd4rl, vd4rl.losses),
    )
}
"""By name, in the order in which they are tried."""


def choose_format(name: str) -> Format:
    """Return a format by its name; raise DataError if there is none."""
    if name not in FORMATS:
        raise DataError(f"There is no format '{name}'{did_you_mean(name, FORMATS, 'the formats are')}")
    return FORMATS[name]


def find_format(path: Path) -> Format:
    """Return the format that a path is in; raise DataError if it is in none."""
    if not path.exists():
        raise DataError(f"There is nothing at {path}. Nothing was done. Check the path.")
    for each in FORMATS.values():
        if each.detect(path):
            return each
    raise DataError(f"{path} is in none of the formats {', '.join(FORMATS)}. Nothing was done. Compare docs/data.md.")


def open_recording(path: Path | str, format: str | None = None) -> Recording:
    """Open recorded episodes.

    Args:
        path: a run, a folder of imported data, a `replay.db`, or files in another format.
        format: name of the format; None finds it out.

    Raises:
        DataError: if it is no recording, or a package is missing.
    """
    path = Path(path)
    chosen = find_format(path) if format is None else choose_format(format)
    if not path.exists():
        raise DataError(f"There is nothing at {path}. Nothing was done. Check the path.")
    return chosen.open(path)

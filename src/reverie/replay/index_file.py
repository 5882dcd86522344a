"""`index.json`: what a replay's folder holds, as one file that is replaced as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReplayError
from reverie.replay.index import Integers, Lost, Position
from reverie.runs.atomic_io import Unreadable, atomic_write, dumps_checksummed, loads_checksummed, parse_json, read_file
from reverie.specs import ArraySpec

FORMAT = "reverie-replay"
VERSION = 2
"""Version 1 had no checksums, neither of rows nor of itself. Such a replay goes on, without those of rows."""
INDEX = "index.json"
_MOST_ROWS = 1 << 24  # of a segment
_REMEDY = "put it back from a copy; without it the replay is lost, and only weights are left of the run"


@dataclass(frozen=True)
class IndexFile:
    """Content of the file, apart from the shapes of a step."""

    identity: int | None
    """Number of this replay, drawn when it was created, which its checksums cover; None if rows have none."""
    segment_steps: int
    """Rows per segment, fixed when the replay was created."""
    commits: list[Position]
    """The last two, oldest first; the creation of the replay counts as one."""
    first_episode: int
    """Number of the first episode below."""
    episodes: Integers
    """int64 [E, 3]: stream, first row and steps, in the order in which they finished."""
    lost: list[Lost] = field(default_factory=list)
    """Damaged rows that have been given up."""

    def is_possible(self) -> bool:
        """Whether these numbers can belong together; a stranger can write any, with a right checksum."""
        if not self.commits or not 0 < self.segment_steps <= _MOST_ROWS or self.first_episode < 0:
            return False
        streams, last = max(len(commit.streams) for commit in self.commits), self.commits[-1]
        rows = np.array([[gap.stream, gap.first, gap.stop - gap.first] for gap in self.lost], np.int64).reshape(-1, 3)
        return (
            all((part >= 0).all() and (part[:, 0] < streams).all() for part in (self.episodes, rows))
            and last.episodes <= self.first_episode + len(self.episodes)
            and min(commit.evicted for commit in self.commits) >= self.first_episode
        )


def read_index(directory: Path, specs: Mapping[str, ArraySpec]) -> IndexFile | None:
    """Read the index of a replay that stores steps of these shapes; None if there is none.

    Raises:
        OSError: if it cannot be read.
        ReplayError: if it is damaged, of another version, or describes other steps.
    """
    path = directory / INDEX
    if not path.exists():
        if any(directory.glob("stream-*")):
            raise ReplayError(f"{path} is missing, though there are steps beside it; {_REMEDY}.")
        return None
    try:
        data = read_file(path)
        stored = parse_json(data)
        if stored["format"] != FORMAT or stored["version"] not in (1, VERSION):
            raise ReplayError(
                f"{path} has format {str(stored['format'])[:40]} {str(stored['version'])[:20]}, and this program reads "
                f"{FORMAT} up to version {VERSION}; use the version of reverie that wrote it, or another folder."
            )
        if stored["version"] == VERSION:
            stored = loads_checksummed(data, indent=None)
        given = _describe(specs)
        differing = sorted(
            key for key in stored["steps"].keys() | given.keys() if stored["steps"].get(key) != given.get(key)
        )
        if differing:
            text = (
                f"{key}: {_brief(stored['steps'].get(key))} there, {_brief(given.get(key))} here" for key in differing
            )
            raise ReplayError(
                f"The replay in {directory} holds steps of another environment ({'; '.join(text)}); "
                "choose another folder, or the environment that it was recorded in."
            )
        identity = stored.get("identity")
        index = IndexFile(
            None if identity is None else int(identity),
            int(stored["segment_steps"]),
            [Position.from_json(commit) for commit in stored["commits"]],
            int(stored["first_episode"]),
            np.array(stored["episodes"], np.int64).reshape(-1, 3),
            [Lost(*map(int, gap)) for gap in stored.get("lost", [])],
        )
        if not index.is_possible():
            raise ValueError("numbers that do not belong together")
        return index
    except Unreadable as error:
        raise ReplayError(f"{path} is damaged: it {error}; {_REMEDY}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ReplayError(f"{path} is damaged: it does not hold what an index holds; {_REMEDY}.") from error


def write_index(directory: Path, specs: Mapping[str, ArraySpec], index: IndexFile) -> None:
    """Replace the index; once this returns, it is on the disk.

    Raises:
        OSError: the former index is then still there.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "identity": index.identity,
        "steps": _describe(specs),
        "segment_steps": index.segment_steps,
        "commits": [commit.to_json() for commit in index.commits],
        "first_episode": index.first_episode,
        "episodes": index.episodes.tolist(),
        "lost": [list(gap) for gap in index.lost],
    }
    atomic_write(
        directory / INDEX, dumps_checksummed(content, indent=None)
    )  # With indentation it takes ten times as long.


def _describe(specs: Mapping[str, ArraySpec]) -> dict[str, dict[str, object]]:
    return {key: {"shape": list(spec.shape), "dtype": spec.dtype} for key, spec in specs.items()}


def _brief(entry: Any) -> str:
    return f"{entry['dtype']} {entry['shape']}" if entry else "absent"

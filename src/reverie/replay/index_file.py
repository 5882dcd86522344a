"""`index.json`: what a replay's folder holds, as one file that is replaced as a whole."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReplayError
from reverie.replay.index import Integers, Position
from reverie.spaces import ArraySpec

FORMAT = "reverie-replay"
VERSION = 1


@dataclass(frozen=True)
class IndexFile:
    """Content of the file, apart from the shapes of a step."""

    segment_steps: int
    """Rows per segment, fixed when the replay was created."""
    commits: list[Position]
    """The last two, oldest first; the creation of the replay counts as one."""
    first_episode: int
    """Number of the first episode below."""
    episodes: Integers
    """int64 [E, 3]: stream, first row and steps, in the order in which they finished."""


def read_index(directory: Path, specs: Mapping[str, ArraySpec]) -> IndexFile | None:
    """Read the index of a replay that stores steps of these shapes; None if there is none.

    Raises:
        OSError: if it cannot be read.
        ReplayError: if it is damaged, of another version, or describes other steps.
    """
    path = directory / "index.json"
    try:
        stored = json.loads(path.read_text())
        if (stored["format"], stored["version"]) != (FORMAT, VERSION):
            raise ReplayError(
                f"{path} has format {stored['format']} {stored['version']}, and this program reads {FORMAT} "
                f"{VERSION} only; use the version of reverie that wrote it, or another folder."
            )
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
        if not stored["commits"]:
            raise ValueError("no commit")
        return IndexFile(
            int(stored["segment_steps"]),
            [Position.from_json(commit) for commit in stored["commits"]],
            int(stored["first_episode"]),
            np.array(stored["episodes"], np.int64).reshape(-1, 3),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReplayError(f"{path} is damaged; to train on without it, delete the replay folder.") from error


def write_index(directory: Path, specs: Mapping[str, ArraySpec], index: IndexFile) -> None:
    """Replace the index; once this returns, it is on the disk.

    Raises:
        OSError: the former index is then still there.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "steps": _describe(specs),
        "segment_steps": index.segment_steps,
        "commits": [commit.to_json() for commit in index.commits],
        "first_episode": index.first_episode,
        "episodes": index.episodes.tolist(),
    }
    temporary = directory / "index.json.tmp"
    try:
        with temporary.open("w") as file:
            file.write(json.dumps(content))  # Ten times as fast as json.dump.
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(directory / "index.json")
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # The names of this file and of new segments.
    finally:
        os.close(descriptor)


def _describe(specs: Mapping[str, ArraySpec]) -> dict[str, dict[str, object]]:
    return {key: {"shape": list(spec.shape), "dtype": spec.dtype} for key, spec in specs.items()}


def _brief(entry: Any) -> str:
    return f"{entry['dtype']} {entry['shape']}" if entry else "absent"

"""Episodes of the DreamerV2 release: a folder of `TIMESTAMP-ID-LENGTH.npz`, one for each episode.

Each file holds arrays [T+1, ...] by key: observations, `action` (float32, one-hot or in [-1, 1]), `reward`, `is_first`,
`is_last` and `is_terminal`. Row t holds the action that led to observation t, so that the first action and reward are
zeros. Older files have `discount` in place of the flags: the last step is terminal where it is 0. The length in the
name is not read; it is often wrong. The release glues an unfinished episode of the prefill to the next one: a file with
`is_first` within it is two episodes.

What is exported here has `spaces.json` next to it, which other readers ignore: it keeps what a one-hot vector does not
say, such as the sizes of several categoricals.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from reverie.data.adapter import EpisodeAdapter, agent_spaces, box_spaces, infer_action_space
from reverie.data.episodes import (
    Episode,
    Recording,
    as_float32,
    check_episode,
    check_key,
    check_size,
    flags,
    read_spec,
    reading,
    write_spec,
)
from reverie.errors import DataError
from reverie.runs.atomic_io import Unreadable
from reverie.specs import RESERVED_KEYS, Array, EnvSpec, Step

_FIRST = datetime(2000, 1, 1)
"""Time in the name of the first episode; the next ones follow by a second, so that names sort in their order."""


def detect(path: Path) -> bool:
    """Return whether a path holds episodes of this format."""
    return path.suffix == ".npz" or any(path.glob("*.npz"))


def open_npz(path: Path) -> Recording:
    """Open a folder of episodes, or a single one."""
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"There is no episode (*.npz) in {path}. Nothing was done. Name the folder that holds them.")
    for file in files:
        with reading(file):
            first = read_arrays(file)
            observations, action = box_spaces(observations_of(first)), infer_action_space(first["action"])
        if len(first["action"]) > 1:  # else there is no action to see
            break
    stored = read_spec(path) if path.is_dir() else None
    if stored is not None:
        observations, action = agent_spaces(stored)
    adapter = EpisodeAdapter(observations, action, str(path))
    spec = adapter.matching(stored)

    def read() -> Iterator[Episode]:
        for file in files:
            with reading(file):
                for episode in convert(read_arrays(file), adapter, recording):
                    check_episode(episode, spec)
                    yield episode

    recording = Recording(path, spec, read, adapter.notes)
    return recording


def read_arrays(path: Path) -> Step:
    """Read all arrays of an archive; nothing in it is unpickled, and none is larger than the archive says."""
    found: Step = {}
    with zipfile.ZipFile(path) as archive:
        check_size(sum(member.file_size for member in archive.infolist()))
        for member in archive.infolist():
            with archive.open(member) as file:
                _check_header(member, file)
            with archive.open(member) as file:
                found[member.filename.removesuffix(".npy")] = npy.read_array(file)  # unpickles nothing
    if "action" not in found:
        raise Unreadable("lacks 'action'")
    if any(array.ndim == 0 or len(array) != len(found["action"]) for array in found.values()):
        raise Unreadable(f"has arrays of different lengths: { {key: array.shape for key, array in found.items()} }")
    return found


def observations_of(arrays: Step) -> Step:
    """Return the observations among the arrays of an episode."""
    return {key: array for key, array in arrays.items() if key not in RESERVED_KEYS}


def convert(arrays: Step, adapter: EpisodeAdapter, recording: Recording) -> Iterator[Episode]:
    """Yield the episodes of a file."""
    length = len(arrays["action"])
    if not length:
        raise Unreadable("has no step")
    if "reward" not in arrays:
        raise Unreadable("lacks 'reward'")
    if arrays["reward"].dtype != np.float32 or arrays["action"].dtype != np.float32:
        recording.note("Rewards or actions that are not float32 become float32.")
    rows = {
        **adapter.observations(observations_of(arrays), length),
        "action": as_float32(arrays["action"], "action"),
        "reward": as_float32(arrays["reward"], "reward"),
    }
    if rows["reward"].shape != (length,):
        raise Unreadable(f"has rewards of shape {rows['reward'].shape} where {(length,)} is needed")
    is_first, is_terminal = (_flag(arrays, name, length) for name in ("is_first", "is_terminal"))
    if is_terminal is None:
        if "discount" not in arrays:
            raise Unreadable("lacks 'is_terminal', and 'discount', from which it follows")
        is_terminal = as_float32(arrays["discount"], "discount").reshape(length) == 0
        recording.note("Without 'is_terminal', a step is terminal where 'discount' is 0.")
    starts = [0, *(np.flatnonzero(is_first[1:]) + 1).tolist()] if is_first is not None else [0]
    is_last = _flag(arrays, "is_last", length)
    for start, stop in zip(starts, [*starts[1:], length], strict=True):
        if is_terminal[start : stop - 1].any() or (is_last is not None and is_last[start : stop - 1].any()):
            raise Unreadable("has an episode that continues after its last step")
        part = {key: np.ascontiguousarray(array[start:stop]) for key, array in rows.items()}
        if part["action"][0].any() or part["reward"][0]:
            recording.note(
                "Some episodes begin with an action or a reward that is not 0. This is right where a long episode was "
                "split; otherwise the actions were stored at the observation they were taken at, and must be shifted."
            )
        yield {**part, **flags(stop - start, is_terminal[stop - 1])}


def write_npz(folder: Path, spec: EnvSpec, episodes: Iterable[Episode]) -> None:
    """Write each episode into a file; equal episodes give equal bytes."""
    for number, episode in enumerate(episodes):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:  # numpy.savez has keys of its own
            for key, rows in episode.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                    npy.write_array(file, rows)
        time = (_FIRST + timedelta(seconds=number)).strftime("%Y%m%dT%H%M%S")
        identity = hashlib.sha256(data.getvalue()).hexdigest()[:32]
        (folder / f"{time}-{identity}-{len(episode['action']) - 1}.npz").write_bytes(data.getvalue())
    write_spec(folder, spec)


def _flag(arrays: Step, name: str, length: int) -> Array | None:
    if name not in arrays:
        return None
    if arrays[name].shape != (length,) or arrays[name].dtype.kind not in "biuf":
        raise Unreadable(f"has '{name}' of {arrays[name].dtype} {arrays[name].shape}")
    return arrays[name].astype(bool)


def _check_header(member: zipfile.ZipInfo, file: Any) -> None:
    """Compare an array's shape with its size before memory is taken for it."""
    check_key(member.filename.removesuffix(".npy"))
    if not member.filename.endswith(".npy"):
        raise Unreadable(f"holds {member.filename[:40]!r}, which is no array")
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise Unreadable("holds pickled objects, which could run programs")
    if prod(shape) * dtype.itemsize != member.file_size - file.tell():
        raise Unreadable(f"is cut off: '{member.filename}' of shape {shape} needs more or fewer bytes")

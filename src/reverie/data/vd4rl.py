"""HDF5 files of v-d4rl: one or several `*.hdf5` in a folder, each with all of its episodes in a row.

| key | dtype | shape |
|---|---|---|
| `observation` | uint8 | [N, C, H, W], channels first |
| `action` | float32 | [N, A], in [-1, 1] or one-hot |
| `reward` | float32 | [N] |
| `discount` | float32 | [N]; 0 where the task has ended |
| `step_type` | int64 | [N], as dm_env's: 0 for the first row of an episode, 1 within it, 2 for the last one |

N counts the rows of all episodes, T+1 each. Row t holds the action that led to observation t, as reverie's do. Episodes
begin at `step_type` 0. v-d4rl's 64-pixel data for DreamerV2 is in the release's `.npz` episodes instead.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.data.adapter import EpisodeAdapter, infer_action_space
from reverie.data.episodes import (
    Episode,
    Recording,
    as_float32,
    check_episode,
    check_size,
    flags,
    optional_import,
    reading,
)
from reverie.data.hdf5 import check_links
from reverie.errors import DataError
from reverie.runs.atomic_io import Unreadable
from reverie.specs import Array, EnvSpec

IMAGE = "image"
KEYS = ("observation", "action", "reward", "discount", "step_type")
FIRST, MID, LAST = 0, 1, 2


def detect(path: Path) -> bool:
    """Return whether a path holds files of this format."""
    return path.suffix in (".hdf5", ".h5") or any(path.glob("*.hdf5"))


def open_vd4rl(path: Path) -> Recording:
    """Open a folder of files, or a single one."""
    with optional_import():
        import h5py
    files = sorted(path.glob("*.hdf5")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"There is no file *.hdf5 in {path}. Nothing was done. Name the folder that holds them.")
    with reading(files[0]), h5py.File(files[0], "r") as file:
        images, rows = _arrays(file)
        taken = rows["action"][rows["step_type"] != FIRST]
        action = infer_action_space(np.concatenate([np.zeros_like(rows["action"][:1]), taken]))
    box = spaces.Box(0, 255, images.shape[1:], np.uint8)
    adapter = EpisodeAdapter(spaces.Dict({IMAGE: box}), action, str(path))

    def read() -> Iterator[Episode]:
        for name in files:
            with reading(name), h5py.File(name, "r") as file:
                for episode in _episodes(file, adapter, recording):
                    check_episode(episode, adapter.spec)
                    yield episode

    recording = Recording(path, adapter.spec, read, adapter.notes)
    return recording


def write_vd4rl(folder: Path, spec: EnvSpec, episodes: Iterable[Episode]) -> None:
    """Write all episodes into one file."""
    with optional_import():
        import h5py
    key = _image_key(spec)
    with h5py.File(folder / "data.hdf5", "w") as file:
        for episode in episodes:
            length = len(episode["action"])
            step_type = np.full(length, MID, np.int64)
            step_type[-1], step_type[0] = LAST, FIRST
            rows = {
                "observation": episode[key].transpose(0, 3, 1, 2),
                "action": episode["action"],
                "reward": episode["reward"],
                "discount": 1 - episode["is_terminal"].astype(np.float32),
                "step_type": step_type,
            }
            for name, array in rows.items():
                _append(file, name, array)


def losses(spec: EnvSpec) -> str:
    """Return what a written file does not hold; raise DataError if there is no image, which the layout needs."""
    key = _image_key(spec)
    others = ", ".join(f"'{other}'" for other in spec.observations if other != key)
    parts = [f"the observations {others}"] if others else []
    parts += [f"the name '{key}' of the images"] if key != IMAGE else []
    parts += ["the sizes of the categoricals"] if len(spec.action.sizes) > 1 else []
    return f"The format does not hold {' and '.join(parts)}." if parts else ""


def _image_key(spec: EnvSpec) -> str:
    images = [key for key, entry in spec.observations.items() if entry.is_image]
    if not images:
        raise DataError("vd4rl holds images, and there are none. Nothing was written. Choose the format npz or minari.")
    return images[0]


def _append(file: Any, name: str, array: Array) -> None:
    if name not in file:
        chunks, options = (min(64, len(array)), *array.shape[1:]), {"compression": "gzip", "compression_opts": 1}
        file.create_dataset(name, data=array, maxshape=(None, *array.shape[1:]), chunks=chunks, **options)
        return
    file[name].resize(len(file[name]) + len(array), 0)
    file[name][-len(array) :] = array


def _arrays(file: Any) -> tuple[Any, dict[str, Array]]:
    """Return the images, which are not read yet, and the other arrays."""
    if missing := [key for key in KEYS if key not in file]:
        raise Unreadable(f"lacks '{missing[0]}'")
    check_links(file, KEYS)
    images = file["observation"]
    if images.ndim != 4 or images.dtype != np.uint8:
        raise Unreadable(f"has observations of {images.dtype} {images.shape} where uint8 [N, C, H, W] is needed")
    check_size(check_links(file, KEYS[1:]))
    rows = {key: file[key][()] for key in KEYS[1:]}
    for key, array in rows.items():
        if array.dtype.kind not in "biuf" or array.ndim != (2 if key == "action" else 1) or len(array) != len(images):
            raise Unreadable(f"has '{key}' of {array.dtype} {array.shape} next to {len(images)} observations")
    return images, rows


def _starts(step_type: Array) -> list[int]:
    starts = np.flatnonzero(step_type == FIRST).tolist()
    if not starts or starts[0] != 0:
        raise Unreadable("does not begin with the first step of an episode (step_type 0)")
    return [*starts, len(step_type)]


def _episodes(file: Any, adapter: EpisodeAdapter, recording: Recording) -> Iterator[Episode]:
    images, rows = _arrays(file)
    starts = _starts(rows["step_type"])
    if not np.isin(rows["step_type"], (FIRST, MID, LAST)).all():
        raise Unreadable("has values of 'step_type' other than 0, 1 and 2")
    for start, stop in pairwise(starts):
        if (rows["step_type"][start : stop - 1] == LAST).any():
            raise Unreadable("has an episode that continues after its last step (step_type 2)")
        if stop - start > 1 and rows["step_type"][stop - 1] != LAST:
            recording.note("Some episodes have no last step (step_type 2): they are taken as cut short.")
        check_size((stop - start) * images[0].nbytes)
        discount = rows["discount"][start:stop]
        if (discount[:-1] == 0).any():
            raise Unreadable("has an episode that continues after a discount of 0")
        yield {
            **adapter.observations({IMAGE: images[start:stop]}, stop - start),
            "action": as_float32(rows["action"][start:stop], "action"),
            "reward": as_float32(rows["reward"][start:stop], "reward"),
            **flags(stop - start, discount[-1] == 0),
        }

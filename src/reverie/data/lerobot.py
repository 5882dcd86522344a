"""LeRobot data sets, version 3, read only: Parquet for numbers, MP4 for cameras, several episodes in a file.

    meta/info.json                               version, frames per second, and dtype and shape of each feature
    meta/episodes/chunk-000/file-000.parquet     a row for each episode: its files, and where it is in them
    data/chunk-000/file-000.parquet              a row for each frame: `action`, `observation.*`, `next.reward`, ...
    videos/CAMERA/chunk-000/file-000.mp4         the frames of a camera

A row's action is the one taken at its observation. What followed the last one is not stored: it is left out, unless the
data set has rewards. Then the last observation is repeated for it, so that the last reward and the end are kept.
`next.success` marks a terminal step; `next.done` also marks time limits, and is not read.
"""

import io
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from PIL import Image

from reverie.data.adapter import EpisodeAdapter, scaled_box
from reverie.data.episodes import (
    Episode,
    Recording,
    check_episode,
    check_key,
    check_size,
    from_transitions,
    optional_import,
    reading,
)
from reverie.envs.spaces import Space
from reverie.runs.atomic_io import Unreadable, parse_json, read_file
from reverie.specs import Array, Step

INFO = "meta/info.json"
OBSERVATION = "observation."
REWARD, SUCCESS = "next.reward", "next.success"


def detect(path: Path) -> bool:
    """Return whether a folder is a data set."""
    return (path / INFO).is_file()


def open_lerobot(path: Path) -> Recording:
    """Open a data set on this machine."""
    with optional_import():
        import av  # noqa: F401 - to say so before anything is read
        import pyarrow.parquet  # noqa: F401
    with reading(path / INFO):
        info = parse_json(read_file(path / INFO, limit=1 << 24))
        features = _features(info)
    with reading(path / "meta/episodes"):
        episodes = _episode_rows(path)
    tables = _Tables(path, [name for name, feature in features.items() if feature["dtype"] != "video"])
    boxes: dict[str, Space] = {}
    with reading(path):
        first, half = tables.episode(episodes[0]), 0.5 / float(info["fps"])
        for name, feature in features.items():
            if feature["dtype"] in ("video", "image"):
                frames = _camera(path, name, feature, episodes[0], first, half)
                boxes[_key(name)] = spaces.Box(0, 255, next(frames).shape, np.uint8)
            elif name.startswith(OBSERVATION):
                boxes[_key(name)] = spaces.Box(-np.inf, np.inf, _column(first, name).shape[1:])
        action = _action_space(tables, episodes)
    adapter = EpisodeAdapter(spaces.Dict(boxes), action, str(path))

    def read() -> Iterator[Episode]:
        for number, row in enumerate(episodes):
            with reading(path):
                try:
                    episode = _convert(path, info, features, row, tables.episode(row), adapter, recording)
                    check_episode(episode, adapter.spec)
                except Unreadable as error:
                    raise Unreadable(f"(episode {number}) {error}") from error
            yield episode

    recording = Recording(path, adapter.spec, read, adapter.notes)
    recording.note("Task descriptions and times are left out.")
    if REWARD not in features:
        recording.note("There are no rewards: all are 0. The last action of each episode is left out.")
    else:
        recording.note("What the last action of an episode led to is not stored: its last observation is repeated.")
    return recording


class _Tables:
    """Frames of each episode; the file that was read last is kept."""

    def __init__(self, folder: Path, columns: list[str]) -> None:
        self._folder, self._columns = folder, columns
        self._path: Path | None = None
        self._table: Any = None

    def episode(self, row: Mapping[str, Any]) -> Any:
        """Return the table of an episode."""
        path = _path(self._folder, "data", row["data/chunk_index"], row["data/file_index"], "parquet")
        if path != self._path:
            from pyarrow import parquet

            file = parquet.ParquetFile(path)
            check_size(sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)))
            columns = ["episode_index", *self._columns]
            if missing := sorted({*columns} - {*file.schema_arrow.names}):
                raise Unreadable(f"lacks the column '{missing[0]}' in {path.name}")
            self._path, self._table = path, file.read(columns)
        numbers = self._table["episode_index"].to_numpy()
        chosen = np.flatnonzero(numbers == row["episode_index"])
        if len(chosen) != row["length"] or (np.diff(chosen) != 1).any():
            raise Unreadable(f"has {len(chosen)} frames of episode {row['episode_index']} instead of {row['length']}")
        return self._table.slice(int(chosen[0]), len(chosen))


def _features(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the features that are read: actions, observations, rewards and success."""
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        raise Unreadable(f"is of version {version[:10]!r}; only v3 is read, to which LeRobot converts older ones")
    found = {
        name: feature
        for name, feature in info["features"].items()
        if name in ("action", REWARD, SUCCESS) or name.startswith(OBSERVATION)
    }
    if "action" not in found:
        raise Unreadable("lacks the feature 'action'")
    for name in found:
        check_key(name)
    if not float(info["fps"]) > 0:
        raise Unreadable("has no frames per second")
    return found


def _episode_rows(folder: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    files = sorted(folder.glob("meta/episodes/*/*.parquet"))
    needed = ("episode_index", "length", "data/chunk_index", "data/file_index")
    rows: list[dict[str, Any]] = []
    for path in files:
        file = parquet.ParquetFile(path)
        names = [name for name in file.schema_arrow.names if name in needed or name.startswith("videos/")]
        if missing := sorted({*needed} - {*names}):
            raise Unreadable(f"lacks the column '{missing[0]}' in {path.name}")
        rows += file.read(names).to_pylist()
    if not rows:
        raise Unreadable("has no episode")
    if any(type(row[name]) is not int or row[name] < 0 for row in rows for name in needed) or not rows[0]["length"]:
        raise Unreadable("has a row that is no episode")
    return sorted(rows, key=lambda row: row["episode_index"])


def _path(folder: Path, kind: str, chunk: Any, file: Any, ending: str) -> Path:
    """Return the path of a file, always LeRobot's default: a template of the data set's own could lead anywhere."""
    path = folder / kind / f"chunk-{int(chunk):03d}" / f"file-{int(file):03d}.{ending}"
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Unreadable("has a link to another place")
    return path


def _key(name: str) -> str:
    return name.removeprefix(OBSERVATION).replace(".", "/")


def _column(table: Any, name: str) -> Array:
    """Return a column as an array [T, n], numbers of one entry included."""
    values = np.array(table[name].to_pylist())
    if values.dtype.kind not in "fiub" or len(values) != len(table):
        raise Unreadable(f"has '{name}' with entries that are no numbers of one shape")
    return values.reshape(len(values), -1)


def _action_space(tables: _Tables, episodes: list[dict[str, Any]]) -> Space:
    actions = np.concatenate([_column(tables.episode(row), "action") for row in episodes])
    if actions.dtype.kind == "f":
        return scaled_box(actions)
    if (actions < 0).any() or actions.max() >= 10_000:
        raise Unreadable("has whole numbers as actions that do not count from 0")
    return spaces.MultiDiscrete(actions.max(0) + 1) if actions.shape[1] > 1 else spaces.Discrete(int(actions.max()) + 1)


def _convert(
    path: Path,
    info: Mapping[str, Any],
    features: Mapping[str, Any],
    row: Mapping[str, Any],
    table: Any,
    adapter: EpisodeAdapter,
    recording: Recording,
) -> Episode:
    length: int = row["length"]
    observations: Step = {}
    for name, feature in features.items():
        if feature["dtype"] in ("video", "image"):
            frames = _camera(path, name, feature, row, table, 0.5 / float(info["fps"]))
            observations[_key(name)] = images = adapter.images(_key(name), frames, length)
            if len(images) < length:
                raise Unreadable(f"has {len(images)} frames of {name} instead of {length}")
        elif name.startswith(OBSERVATION):
            observations |= adapter.entries({_key(name): _column(table, name).astype(np.float32)}, length)
    actions = adapter.actions(_column(table, "action"))
    if REWARD not in features:
        return from_transitions(observations, actions[:-1], np.zeros(length - 1), False)
    observations = {key: np.concatenate([values, values[-1:]]) for key, values in observations.items()}
    is_success = SUCCESS in features and bool(_column(table, SUCCESS)[-1, 0])
    return from_transitions(observations, actions, _column(table, REWARD)[:, 0], is_success)


def _camera(
    folder: Path, name: str, feature: Mapping[str, Any], row: Mapping[str, Any], table: Any, half: float
) -> Iterator[Array]:
    """Yield the frames of an episode, uint8 [H, W, 3]."""
    if feature["dtype"] == "image":
        for cell in table[name].to_pylist():
            with Image.open(io.BytesIO(cell["bytes"])) as picture:
                yield np.asarray(picture.convert("RGB"))
        return
    import av

    kind = f"videos/{name}"
    path = _path(folder, kind, row[f"{kind}/chunk_index"], row[f"{kind}/file_index"], "mp4")
    begin = float(row[f"{kind}/from_timestamp"])
    with av.open(str(path.resolve()), format="mov", options={"protocol_whitelist": "file"}) as container:
        stream = container.streams.video[0]
        container.seek(int(begin / stream.time_base), stream=stream)
        decoded = (frame for frame in container.decode(stream) if frame.time >= begin - half)
        for frame in islice(decoded, row["length"]):
            yield frame.to_ndarray(format="rgb24")

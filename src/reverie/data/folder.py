"""A folder of pictures or videos and a table, `steps.csv`: what a recording of one's own can be brought into.

    FOLDER/
        steps.csv           one row for each picture, in order
        first/              an episode: its pictures (.png, .jpg, .bmp), sorted by name
        second.mp4          another one: a video (.mp4, .mkv, .webm, .avi, .mov, .gif)

| column of `steps.csv` | |
|---|---|
| `episode` | Name of the folder, or of the video without its ending |
| `action` | Number of the action taken at this picture, from 0; or `action.0`, `action.1`, ... with numbers |
| `reward` | What this action earned; without the column 0 |
| `terminated` | 1 if the task ended with this action; without the column 0 |
| `NAME.0`, `NAME.1`, ... | Entries of the vector NAME that was observed with this picture |

The last picture of an episode shows where its last action led: `action`, `reward` and `terminated` are empty in its
row, and are left out where they are not. Without pictures, the table alone is a recording of vectors. Continuous
actions beyond [-1, 1] are scaled to the range that they have in the table.

What is exported here has PNGs, and `spaces.json` for what the table does not say.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import imageio_ffmpeg
import numpy as np
from gymnasium import spaces
from PIL import Image

from reverie.data.adapter import EpisodeAdapter, agent_action_space, scaled_box, to_classes
from reverie.data.episodes import (
    Episode,
    Recording,
    as_float32,
    check_episode,
    check_key,
    from_transitions,
    read_spec,
    reading,
    to_transitions,
    write_spec,
)
from reverie.envs.spaces import Space
from reverie.errors import DataError
from reverie.runs.atomic_io import Unreadable, read_file
from reverie.specs import Array, EnvSpec, Step

TABLE = "steps.csv"
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
DEMUXERS = {".mp4": "mov", ".mov": "mov", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi", ".gif": "gif"}
"""Reader of a video by its ending; a file of another kind, such as a list of addresses, is refused."""
_MAX_TABLE = 1 << 30
_MAX_PIXELS = 1 << 25
_MAX_CLASSES = 10_000


class _Rows(NamedTuple):
    """Part of the table that is of one episode."""

    actions: Array  # as many as were taken at pictures, the last row's included: float64 [N, A]; NaN where empty
    rewards: Array  # [N]
    terminated: Array  # [N]
    vectors: Step  # [N, ...] by name


def detect(path: Path) -> bool:
    """Return whether a folder has a table of actions."""
    return (path / TABLE).is_file()


def open_folder(path: Path) -> Recording:
    """Open a folder with a table."""
    with reading(path / TABLE):
        table = _read_table(read_file(path / TABLE, limit=_MAX_TABLE))
        places = {name: _place(path, name) for name in table}
    stored = read_spec(path)
    notes: list[str] = []
    image = next((key for key, entry in stored.observations.items() if entry.is_image), "") if stored else "image"
    first = next(iter(table))
    boxes: dict[str, Space] = {}
    if (place := places[first]) is not None and image:
        with reading(place):
            boxes[image] = spaces.Box(0, 255, next(_frames(place, path)).shape, np.uint8)
    for name, values in table[first].vectors.items():
        boxes[name] = spaces.Box(-np.inf, np.inf, values.shape[1:])
    if not boxes:
        raise DataError(f"{path} has no picture of '{first}', and no vectors. Nothing was done. Compare docs/data.md.")
    with reading(path / TABLE):
        actions = np.concatenate([rows.actions for rows in table.values()])
        action = agent_action_space(stored.action) if stored else _action_space(actions, notes)
        adapter = EpisodeAdapter(spaces.Dict(boxes), action, str(path))
    spec = adapter.matching(stored)

    def read() -> Iterator[Episode]:
        for name, rows in table.items():
            with reading(places[name] or path / TABLE):
                episode = _convert(rows, places[name], image if image in boxes else "", path, adapter, recording)
                check_episode(episode, spec)
            yield episode

    recording = Recording(path, spec, read, [*notes, *adapter.notes])
    return recording


def write_folder(folder: Path, spec: EnvSpec, episodes: Iterable[Episode]) -> None:
    """Write each episode as a folder of PNGs, and the table."""
    image = next((key for key, entry in spec.observations.items() if entry.is_image), None)
    vectors = {key: entry.size for key, entry in spec.observations.items() if not entry.is_image}
    is_discrete = spec.action.kind == "discrete"
    width = len(spec.action.sizes) if is_discrete else spec.action.size
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            [
                "episode",
                *(["action"] if is_discrete and width == 1 else [f"action.{index}" for index in range(width)]),
                *("reward", "terminated"),
                *(f"{key}.{index}" for key, size in vectors.items() for index in range(size)),
            ]
        )
        for number, episode in enumerate(episodes):
            name = f"episode-{number:06d}"
            actions, rewards = to_transitions(episode)
            actions = to_classes(actions, spec.action) if is_discrete else actions
            for t in range(len(rewards) + 1):
                is_taken = t < len(rewards)
                ending = [rewards[t], int(episode["is_terminal"][t + 1])] if is_taken else ["", ""]
                seen = [value for key in vectors for value in episode[key][t]]
                table.writerow([name, *(actions[t] if is_taken else [""] * width), *ending, *seen])
            if image:
                (folder / name).mkdir()
                for t, picture in enumerate(episode[image]):
                    array = picture[:, :, 0] if picture.shape[2] == 1 else picture
                    Image.fromarray(array).save(folder / name / f"{t:06d}.png")
    write_spec(folder, spec)


def losses(spec: EnvSpec) -> str:
    """Return what a written folder does not hold; raise DataError where its pictures cannot hold the images."""
    images = [(key, entry.shape[2]) for key, entry in spec.observations.items() if entry.is_image]
    if len(images) > 1 or any(channels > 4 for _, channels in images):
        shown = " and ".join(f"'{key}' with {channels} channels" for key, channels in images)
        raise DataError(f"A folder holds one image of 1 to 4 channels, not {shown}. Nothing was written. Choose npz.")
    return ""


def _read_table(data: bytes) -> dict[str, _Rows]:
    """Return the rows of each episode by its name, in the order of the table."""
    lines = csv.reader(io.StringIO(data.decode("utf-8-sig")), strict=True)
    header = next(lines, [])
    for name in ("episode", "action"):
        if name not in header and f"{name}.0" not in header:
            raise Unreadable(f"lacks the column '{name}'")
    if len(set(header)) < len(header):
        raise Unreadable("has two columns of one name")
    rows: dict[str, list[list[str]]] = {}
    for number, line in enumerate(lines, 2):
        if len(line) != len(header):
            raise Unreadable(f"has {len(line)} entries in line {number} where the header has {len(header)}")
        rows.setdefault(line[header.index("episode")], []).append(line)
    if not rows:
        raise Unreadable("has no rows")
    return {name: _parse(header, lines) for name, lines in rows.items()}


def _parse(header: list[str], lines: list[list[str]]) -> _Rows:
    text = np.array(lines, dtype=object)
    columns = {name: text[:, index] for index, name in enumerate(header)}
    actions = [columns["action"]] if "action" in columns else _entries(columns, "action")
    names = {name.rpartition(".")[0] for name in header if re.fullmatch(r".+\.\d+", name)} - {"action"}
    ordered = sorted(names, key=lambda name: header.index(f"{name}.0") if f"{name}.0" in header else -1)
    vectors = {check_key(name): np.stack([_numbers(each) for each in _entries(columns, name)], 1) for name in ordered}
    none = np.zeros(len(lines))
    return _Rows(
        np.stack([_numbers(each) for each in actions], 1),
        _numbers(columns["reward"]) if "reward" in columns else none,
        _numbers(columns["terminated"]) if "terminated" in columns else none,
        {name: as_float32(values, name) for name, values in vectors.items()},
    )


def _entries(columns: dict[str, Array], name: str) -> list[Array]:
    count = sum(re.fullmatch(rf"{re.escape(name)}\.\d+", column) is not None for column in columns)
    if missing := [f"{name}.{index}" for index in range(count) if f"{name}.{index}" not in columns]:
        raise Unreadable(f"lacks the column '{missing[0]}'")
    return [columns[f"{name}.{index}"] for index in range(count)]


def _numbers(texts: Array) -> Array:
    return np.array([float(text) if text else np.nan for text in texts])


def _place(folder: Path, name: str) -> Path | None:
    """Return the folder of pictures or the video of an episode; None if there is neither."""
    if not re.fullmatch(r"[\w-][\w .-]*", name) or ".." in name:
        raise Unreadable(f"names the episode {name[:40]!r}, which is no name of a folder or video next to it")
    found = [path for path in (folder / name, *(folder / f"{name}{ending}" for ending in DEMUXERS)) if path.exists()]
    for path in found:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise Unreadable(f"names the episode {name!r}, which is a link to another place")
    return found[0] if found else None


def _frames(place: Path, folder: Path) -> Iterator[Array]:
    """Yield the pictures of an episode, uint8 [H, W, C]."""
    if place.is_file():
        yield from _video_frames(place)
        return
    files = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES)
    if not files:
        raise Unreadable("holds no pictures")
    for path in files:
        with reading(path):
            if not path.resolve().is_relative_to(folder.resolve()):
                raise Unreadable("is a link to another place")
            with Image.open(path) as picture:
                _check_pixels(*picture.size)
                shown = picture if picture.mode in ("L", "LA", "RGB", "RGBA") else picture.convert("RGB")
                array = np.asarray(shown, np.uint8)
        yield array.reshape(*array.shape[:2], -1)


def _video_frames(path: Path) -> Iterator[Array]:
    options = ["-f", DEMUXERS[path.suffix], "-protocol_whitelist", "file"]
    # each frame once, whatever its time
    every = ["-fps_mode", "passthrough"]
    frames = imageio_ffmpeg.read_frames(str(path.resolve()), input_params=options, output_params=every)
    try:
        width, height = next(frames)["size"]
        _check_pixels(width, height)
        for frame in frames:
            yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
    finally:
        frames.close()


def _check_pixels(width: int, height: int) -> None:
    if width * height > _MAX_PIXELS:
        raise Unreadable(f"has pictures of {width} x {height} pixels, which are too large")


def _action_space(actions: Array, notes: list[str]) -> Space:
    """Return the space of the actions in a table: whole numbers in one column are classes."""
    taken = actions[~np.isnan(actions).any(1)]
    if not len(taken):
        raise Unreadable("has no action")
    if actions.shape[1] == 1 and (taken >= 0).all() and (taken == np.rint(taken)).all():
        count = int(taken.max()) + 1
        if count > _MAX_CLASSES:
            raise Unreadable(f"has the action {count - 1}, but at most {_MAX_CLASSES} are read")
        notes.append(f"There are {count} actions, after the highest number in the table.")
        return spaces.Discrete(count)
    return scaled_box(taken)


def _convert(
    rows: _Rows, place: Path | None, image: str, folder: Path, adapter: EpisodeAdapter, recording: Recording
) -> Episode:
    length = len(rows.actions)
    observations: Step = {}
    if image:
        if place is None:
            raise Unreadable("names an episode of which there are no pictures")
        observations[image] = adapter.images(image, _frames(place, folder), length + 1)
        length = len(observations[image])
    is_shown = len(rows.actions) == length  # The last row has the last picture, else there is one more picture.
    if len(rows.actions) not in (length, length - 1):
        raise Unreadable(f"has {length} pictures, and {len(rows.actions)} rows in {TABLE}")
    observations |= adapter.entries(rows.vectors, length)
    count = length - 1
    if is_shown and not np.isnan(rows.actions[-1]).any():
        recording.note("The last action of an episode is left out where no picture shows where it led.")
    actions, rewards, terminated = rows.actions[:count], rows.rewards[:count], rows.terminated[:count]
    if np.isnan(actions).any() or np.isnan(rewards).any():
        raise Unreadable(f"has a row in {TABLE} without action or reward before the last one")
    if terminated[:-1].any():
        raise Unreadable("continues after it has terminated")
    return from_transitions(observations, adapter.actions(actions), rewards, count and terminated[-1])

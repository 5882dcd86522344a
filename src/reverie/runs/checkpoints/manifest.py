"""Names in a checkpoint folder, and its manifest: size and SHA-256 of every other file."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reverie.runs.atomic_io import Json, Unreadable, loads_checksummed, parse_json, read_file

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
_LIMIT = 1 << 20  # Bytes; a usual manifest has about a thousand.
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.(safetensors|json)")
_STEP_NAME = re.compile(r"step-([0-9]{9,15})(?:-([0-9]{1,9}))?")


class Damaged(Exception):
    """Damage of a checkpoint folder; becomes a CheckpointError where the folder's name is known."""


def is_file_name(name: str) -> bool:
    """Return whether a file of a checkpoint, other than its manifest, may have this name."""
    return _FILE_NAME.fullmatch(name) is not None and name != MANIFEST


def checkpoints_in(directory: Path) -> tuple[Path, ...]:
    """Return the checkpoints in a folder, oldest first."""
    found = []
    with suppress(FileNotFoundError, NotADirectoryError):
        found = [path for path in directory.iterdir() if _STEP_NAME.fullmatch(path.name) and path.is_dir()]
    return tuple(sorted(found, key=lambda path: step_and_copy(path.name)))


def step_and_copy(name: str) -> tuple[int, int]:
    """Return step and copy of a checkpoint's name: the second one of a step ends in -2."""
    match = _STEP_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"'{name}' is not the name of a checkpoint")
    return int(match[1]), int(match[2] or 1)


def is_checkpoint(path: Path) -> bool:
    """Return whether a folder holds a checkpoint or is named like one; it may be damaged."""
    return path.is_dir() and ((path / MANIFEST).exists() or _STEP_NAME.fullmatch(path.name) is not None)


def read_manifest(folder: Path) -> dict[str, Json]:
    """Read the manifest of a checkpoint; raise Damaged if it is missing, damaged, or of another format."""
    with damage(MANIFEST):
        data = read_file(folder / MANIFEST, limit=_LIMIT)
        manifest = parse_json(data)
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise Damaged(f"{MANIFEST} is not a checkpoint's manifest")
    if manifest["format"] != FORMAT:
        raise Damaged(
            f"{MANIFEST} says format {str(manifest['format'])[:20]}, written by reverie "
            f"{str(manifest.get('package'))[:20]}, while this version reads format {FORMAT}"
        )
    with damage(MANIFEST):
        manifest = loads_checksummed(data)
    _validate(manifest)
    name = folder.resolve().name
    if _STEP_NAME.fullmatch(name) and step_and_copy(name)[0] != manifest["step"]:
        raise Damaged(f"{MANIFEST} is of step {manifest['step']}, another than the folder's name says")
    return manifest


def _validate(manifest: dict[str, Json]) -> None:
    """Validate the contents: an untrusted manifest can have a correct checksum."""
    step, score, files = manifest.get("step"), manifest.get("score"), manifest.get("files")
    if type(step) is not int or step < 0 or not (score is None or type(score) in (int, float)):
        raise Damaged(f"{MANIFEST} has no valid step and score")
    if not isinstance(files, dict) or STATE not in files:
        raise Damaged(f"{MANIFEST} does not list {STATE}")
    for name, entry in files.items():
        if not is_file_name(name):
            raise Damaged(f"{MANIFEST} lists '{name[:80]}', which is not the name of a file in a checkpoint")
        if not isinstance(entry, dict) or type(entry.get("size")) is not int:
            raise Damaged(f"{MANIFEST} does not give the size of {name}")


def read_listed(folder: Path, manifest: dict[str, Json], name: str) -> bytes:
    """Read a file of a checkpoint; raise Damaged if its size or checksum differs."""
    entry = manifest["files"][name]
    with damage(name):
        data = read_file(folder / name, size=entry["size"])
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise Damaged(f"{name} does not have its checksum")
    return data


@contextmanager
def damage(name: str) -> Iterator[None]:
    """Name the file that is unreadable."""
    try:
        yield
    except Unreadable as error:
        raise Damaged(f"{name} {error}") from error


def verify_checkpoint(folder: Path) -> str:
    """Return the first damage of a checkpoint; empty if every file has its checksum."""
    try:
        manifest = read_manifest(folder)
        for name in manifest["files"]:
            read_listed(folder, manifest, name)
    except Damaged as found:
        return str(found)
    return ""


def is_valid(folder: Path) -> bool:
    """Return whether every file of a checkpoint has its checksum."""
    return not verify_checkpoint(folder)

"""Checkpoints on disk: folders of safetensors and JSON that are whole or absent, and never pickled.

A checkpoint is a folder

    step-000012000/
        weights.safetensors ... one file per group of tensors
        state.json              counters, numpy generators and whatever else JSON can hold
        manifest.json           format, package version, step, score; size and SHA-256 of every other file

It is written under a temporary name, flushed to the disk, read back, and renamed. The manifest carries a checksum of
itself, so that every changed byte is noticed. Equal snapshots give equal bytes: nothing depends on time or machine.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from reverie.errors import CheckpointError
from reverie.provenance import reverie_version
from reverie.runs.atomic_io import (
    Json,
    Unreadable,
    dumps_checksummed,
    loads_checksummed,
    parse_json,
    read_file,
    sync_dir,
    to_json,
)
from reverie.shell import command_line

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
_MANIFEST_LIMIT = 1 << 20  # bytes; a real one has about a thousand
TEMPORARY = ".tmp-"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.(safetensors|json|toml)")
_STEP_NAME = re.compile(r"step-([0-9]{9,15})(?:-([0-9]{1,9}))?")
_UNEXPECTED = (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Snapshot:
    """State of an agent or a run, as tensors by group and JSON."""

    tensors: dict[str, dict[str, torch.Tensor]]
    """File stem -> name -> tensor, for example {"weights": {...}, "model_optimizer": {...}, "generators": {...}}."""
    state: dict[str, Json]
    """Counters, numpy generator states, replay position, ..."""


class Damaged(Exception):
    """What is wrong with a checkpoint folder; becomes a CheckpointError where the folder's name is known."""


def write_checkpoint(
    folder: Path, step: int, snapshot: Snapshot, score: float | None = None, texts: Mapping[str, str] | None = None
) -> None:
    """Write one checkpoint folder; at every instant `folder` is absent or whole.

    An earlier checkpoint of the same name is replaced, any other folder with something in it is left alone.

    Args:
        folder: where to write; its parents are created.
        step: agent steps taken so far.
        snapshot: what to write. Tensors may be non-contiguous, share memory, and lie on any device.
        score: mean return of the evaluation that belongs to it, if there was one.
        texts: further files, for example {"config.toml": ...}; covered by the manifest.

    Raises:
        CheckpointError: if the disk is full or does not let us, or `folder` holds something else.
    """
    folder = Path(os.path.abspath(folder))
    try:
        write_folder(folder, step, snapshot, score, texts or {})
    except OSError as error:
        raise CheckpointError(f"{folder} could not be written ({reason(error)}); {remedy(error)}.") from error


def write_folder(folder: Path, step: int, snapshot: Snapshot, score: float | None, texts: Mapping[str, str]) -> None:
    """`write_checkpoint`, with the system's own errors."""
    temporary = folder.with_name(TEMPORARY + folder.name)
    replaced = folder.with_name(TEMPORARY + "old-" + folder.name)
    occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if occupied and not (folder / MANIFEST).is_file():
        raise CheckpointError(f"{folder} holds something other than a checkpoint; choose another name for this one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove(temporary)
    try:
        temporary.mkdir()
        files = {}
        for name, data in _contents(snapshot, texts):
            _write_file(temporary / name, data)
            files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        manifest = {
            "format": FORMAT,
            "package": reverie_version() or "unknown",
            "step": step,
            "score": score,
            "files": files,
        }
        _write_file(temporary / MANIFEST, dumps_checksummed(manifest))
        sync_dir(temporary)
        _verify(temporary)
        if occupied:
            remove(replaced)
            os.replace(folder, replaced)
        os.replace(temporary, folder)
    except BaseException as error:
        with suppress(OSError):
            if occupied and not folder.exists():
                os.replace(replaced, folder)
            remove(temporary)
        if isinstance(error, Damaged):
            raise CheckpointError(f"{folder} was not kept: the disk gave back other data, {error}.") from error
        raise
    sync_dir(folder.parent)
    remove(replaced)


def _contents(snapshot: Snapshot, texts: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """File names with their bytes; one at a time, since a group can be large."""
    yield STATE, to_json(snapshot.state)
    for name, text in texts.items():
        if not _FILE_NAME.fullmatch(name) or name in (STATE, MANIFEST):
            raise ValueError(f"'{name}' cannot be the name of a file in a checkpoint")
        yield name, text.encode()
    for stem, group in snapshot.tensors.items():
        name = f"{stem}.safetensors"
        if not _FILE_NAME.fullmatch(name):
            raise ValueError(f"'{stem}' cannot be the name of a group of tensors")
        # safetensors wants each tensor contiguous and in memory of its own.
        copies = {
            key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for key, value in group.items()
        }
        yield name, tensors_to_bytes(copies)


def _write_file(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def reason(error: OSError) -> str:
    """What the system says."""
    return error.strerror or str(error)


def remedy(error: OSError) -> str:
    """What a user can do about it."""
    return "free some space" if error.errno in _NO_SPACE else "check the disk and the folder's permissions"


def read_checkpoint(folder: Path, device: torch.device | str = "cpu") -> tuple[int, Snapshot]:
    """Read one checkpoint folder; checksums are compared before anything is interpreted.

    Args:
        folder: the checkpoint's folder, or a link to it.
        device: where the tensors go.

    Returns:
        Agent steps taken so far, and the snapshot as it was written (JSON makes lists of tuples).

    Raises:
        CheckpointError: if it is missing or damaged; names the file, and a valid checkpoint in the same folder.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint at {folder}; a checkpoint is a folder with {MANIFEST} in it.")
    try:
        manifest = read_manifest(folder)
        tensors = {}
        state: Json = None
        for name in manifest["files"]:
            data = _read_listed(folder, manifest, name)
            if name == STATE:
                state = _parse_state(data)
            elif name.endswith(".safetensors"):
                tensors[name.removesuffix(".safetensors")] = _parse_tensors(name, data, device)
    except Damaged as damage:
        raise CheckpointError(f"Checkpoint {folder} cannot be used: {damage}; {_alternative(folder)}.") from damage
    return manifest["step"], Snapshot(tensors, state)


def read_state(folder: Path) -> dict[str, Json]:
    """Read the state of one checkpoint folder without its tensors; its checksum is compared.

    Raises:
        CheckpointError: as `read_checkpoint` does.
    """
    try:
        return _parse_state(_read_listed(folder, read_manifest(folder), STATE))
    except Damaged as damage:
        raise CheckpointError(f"Checkpoint {folder} cannot be used: {damage}; {_alternative(folder)}.") from damage


def is_valid(folder: Path) -> bool:
    """Whether every file of a checkpoint is there and has its checksum."""
    return not verify_checkpoint(folder)


def verify_checkpoint(folder: Path) -> str:
    """The first thing that is wrong with a checkpoint; empty if every file is there and has its checksum."""
    try:
        _verify(folder)
    except Damaged as damage:
        return str(damage)
    return ""


def _verify(folder: Path) -> None:
    manifest = read_manifest(folder)
    for name in manifest["files"]:
        _read_listed(folder, manifest, name)


def read_manifest(folder: Path) -> dict[str, Json]:
    """The manifest of a checkpoint, checked against its own checksum; raises Damaged."""
    with _damage(MANIFEST):
        data = read_file(folder / MANIFEST, limit=_MANIFEST_LIMIT)
        manifest = parse_json(data)
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise Damaged(f"{MANIFEST} is not a checkpoint's manifest")
    if manifest["format"] != FORMAT:
        raise Damaged(
            f"{MANIFEST} says format {str(manifest['format'])[:20]}, written by reverie "
            f"{str(manifest.get('package'))[:20]}, while this version reads format {FORMAT}"
        )
    with _damage(MANIFEST):
        manifest = loads_checksummed(data)
    _check_fields(manifest)
    name = folder.resolve().name
    if _STEP_NAME.fullmatch(name) and order(name)[0] != manifest["step"]:
        raise Damaged(f"{MANIFEST} is of step {manifest['step']}, another than the folder's name says")
    return manifest


def _check_fields(manifest: dict[str, Json]) -> None:
    """A manifest from a stranger can have a right checksum and wrong contents."""
    step, score, files = manifest.get("step"), manifest.get("score"), manifest.get("files")
    if type(step) is not int or step < 0 or not (score is None or type(score) in (int, float)):
        raise Damaged(f"{MANIFEST} has no valid step and score")
    if not isinstance(files, dict) or STATE not in files:
        raise Damaged(f"{MANIFEST} does not list {STATE}")
    for name, entry in files.items():
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise Damaged(f"{MANIFEST} lists '{name[:80]}', which is not the name of a file in a checkpoint")
        if not isinstance(entry, dict) or type(entry.get("size")) is not int:
            raise Damaged(f"{MANIFEST} does not give the size of {name}")


def _read_listed(folder: Path, manifest: dict[str, Json], name: str) -> bytes:
    entry = manifest["files"][name]
    with _damage(name):
        data = read_file(folder / name, size=entry["size"])
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise Damaged(f"{name} does not have its checksum")
    return data


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Name the file of which something is wrong."""
    try:
        yield
    except Unreadable as error:
        raise Damaged(f"{name} {error}") from error


def _parse_state(data: bytes) -> dict[str, Json]:
    with _damage(STATE):
        state = parse_json(data)
    if not isinstance(state, dict):
        raise Damaged(f"{STATE} is not a dictionary")
    return state


def _parse_tensors(name: str, data: bytes, device: torch.device | str) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = tensors_from_bytes(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Damaged(f"{name} is not a valid safetensors file") from error
    return {key: value.to(device) for key, value in tensors.items()}


def _alternative(folder: Path) -> str:
    """The words to type when `folder` is damaged."""
    damaged = folder.resolve()
    for other in reversed(steps_in(folder.parent)):
        if other.resolve() != damaged and is_valid(other):
            if folder.parent.name != "checkpoints":  # no run's
                return f"{other} in the same folder is undamaged"
            repair = command_line("verify", folder.parent.parent, "--repair")
            return f"`{repair}` puts it aside, and --resume then continues from {other.name}"
    return "the folder has no other undamaged checkpoint, so restore it from a copy"


def steps_in(directory: Path) -> tuple[Path, ...]:
    """The checkpoints of a folder, oldest first."""
    found = []
    with suppress(FileNotFoundError, NotADirectoryError):
        found = [path for path in directory.iterdir() if _STEP_NAME.fullmatch(path.name) and path.is_dir()]
    return tuple(sorted(found, key=lambda path: order(path.name)))


def order(name: str) -> tuple[int, int]:
    """Step and copy of a checkpoint's name: a second one of the same step ends in -2."""
    match = _STEP_NAME.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[2] or 1)


def is_checkpoint(path: Path) -> bool:
    """Whether this is a folder that holds a checkpoint or is named like one; says nothing of its health."""
    return path.is_dir() and ((path / MANIFEST).exists() or _STEP_NAME.fullmatch(path.name) is not None)


@contextmanager
def validate_contents(where: Path | str) -> Iterator[None]:
    """What is read here has its checksums, but anybody could have written it.

    Args:
        where: it was read, for the message.

    Raises:
        CheckpointError: in place of whatever contents of another kind than expected have led to.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except _UNEXPECTED as error:
        said = " ".join(str(error).split())[:100]
        raise CheckpointError(
            f"{where} is whole, but does not hold what this version of reverie expects ({type(error).__name__}: "
            f"{said}); use the program that wrote it."
        ) from error

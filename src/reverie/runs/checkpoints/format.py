"""Checkpoints on disk: folders of safetensors and JSON that are whole or absent, and never pickled.

A checkpoint is a folder

    step-000012000/
        weights.safetensors ... one file per group of tensors
        state.json              counters, numpy generators and other JSON
        manifest.json           format, package version, step, score; size and SHA-256 of every other file

It is written under a temporary name, flushed to the disk, read back, and renamed. The manifest carries a checksum of
itself, so that every changed byte is found. Equal snapshots give equal bytes: nothing depends on time or machine.
"""

import errno
import hashlib
import operator
import os
from collections.abc import Callable, Iterator, Mapping
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
    check_file,
    dumps_checksummed,
    make_dir,
    parse_json,
    remove,
    sync,
    to_json,
    write_synced,
)
from reverie.runs.checkpoints.manifest import (
    FORMAT,
    MANIFEST,
    STATE,
    Damaged,
    checkpoints_in,
    damage,
    is_file_name,
    is_valid,
    read_listed,
    read_manifest,
    verify_checkpoint,
)
from reverie.runs.layout import CHECKPOINTS
from reverie.shell import command_line

TEMPORARY = ".tmp-"
_TENSORS = ".safetensors"
_HEADER_LIMIT = 1 << 25  # Bytes; a tensor takes about a hundred.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNEXPECTED = (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError)

Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Shape of each tensor, by group and name."""


@dataclass(frozen=True)
class Snapshot:
    """State of an agent or a run, as tensors by group and JSON."""

    tensors: dict[str, dict[str, torch.Tensor]]
    """Group -> name -> tensor, for example {"weights": {...}, "model_optimizer": {...}, "generators": {...}}."""
    state: dict[str, Json]
    """Counters, numpy generator states, the replay's commit, ..."""


def write_checkpoint(folder: Path, step: int, snapshot: Snapshot, score: float | None = None) -> None:
    """Write one checkpoint folder; at every instant `folder` is absent or whole.

    An earlier checkpoint of the same name is replaced; any other folder with content is refused.

    Args:
        folder: the new folder; its parents are created.
        step: agent steps taken so far.
        snapshot: the content. Tensors may be non-contiguous, share memory, and lie on any device.
        score: mean return of the evaluation that belongs to it, if there was one.

    Raises:
        CheckpointError: if the disk is full or not writable, or `folder` holds something else.
    """
    folder = Path(os.path.abspath(folder))
    with disk_errors(f"{folder} could not be written"):
        write_folder(folder, step, snapshot, score)


@contextmanager
def disk_errors(problem: str, consequence: str = "", ending: str = "") -> Iterator[None]:
    """Turn an OSError into a CheckpointError: problem with the reason, consequence, advice with its ending."""
    try:
        yield
    except OSError as error:
        advice = "Free some space" if error.errno in _NO_SPACE else "Check the disk and the folder's permissions"
        raise CheckpointError(f"{problem} ({error.strerror or error}).{consequence} {advice}{ending}.") from error


def write_folder(folder: Path, step: int, snapshot: Snapshot, score: float | None) -> None:
    """Write a checkpoint as `write_checkpoint` does, but raise the system's own errors."""
    temporary = folder.with_name(TEMPORARY + folder.name)
    replaced = folder.with_name(TEMPORARY + "old-" + folder.name)
    occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if occupied and not (folder / MANIFEST).is_file():
        raise CheckpointError(f"{folder} holds something other than a checkpoint. Choose another name for this one.")
    make_dir(folder.parent)
    remove(temporary)
    try:
        temporary.mkdir()
        files = {}
        for name, data in _contents(snapshot):
            write_synced(temporary / name, data)
            files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        package = reverie_version() or "unknown"
        manifest = {"format": FORMAT, "package": package, "step": step, "score": score, "files": files}
        write_synced(temporary / MANIFEST, dumps_checksummed(manifest))
        sync(temporary)
        if found := verify_checkpoint(temporary):
            raise CheckpointError(f"{folder} was not kept: the disk returned other data, {found}. Check the disk.")
        if occupied:
            remove(replaced)
            os.replace(folder, replaced)
        os.replace(temporary, folder)
    except BaseException:
        with suppress(OSError):
            if occupied and not folder.exists():
                os.replace(replaced, folder)
            remove(temporary)
        raise
    sync(folder.parent)
    remove(replaced)


def _contents(snapshot: Snapshot) -> Iterator[tuple[str, bytes]]:
    """Yield file names with their bytes; one at a time, since a group can be large."""
    yield STATE, to_json(snapshot.state)
    for group, tensors in snapshot.tensors.items():
        if not is_file_name(group + _TENSORS):
            raise ValueError(f"'{group}' cannot be the name of a group of tensors")
        # safetensors needs each tensor contiguous and in memory of its own.
        copies = {
            name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        yield group + _TENSORS, tensors_to_bytes(copies)


def read_checkpoint(
    folder: Path,
    device: torch.device | str = "cpu",
    check: Callable[[dict[str, Json], Shapes], None] | None = None,
) -> tuple[int, Snapshot]:
    """Read one checkpoint folder; checksums are compared before anything is interpreted.

    Args:
        folder: the checkpoint's folder, or a link to it.
        device: device of the tensors.
        check: called with the state and the shapes of all tensors before any tensor is read; raises to refuse them.

    Returns:
        Agent steps taken so far, and the snapshot as it was written (JSON makes lists of tuples).

    Raises:
        CheckpointError: if it is missing or damaged; names the file, and a valid checkpoint in the same folder.
    """
    with _reading(folder):
        manifest = read_manifest(folder)
        state = _read_state(folder, manifest)
        names = [name for name in manifest["files"] if name.endswith(_TENSORS)]
        if check is not None:
            shapes = {name.removesuffix(_TENSORS): _read_shapes(folder, manifest, name) for name in names}
            with validate_contents(folder):
                check(state, shapes)
        tensors = {}
        for name in manifest["files"]:
            data = read_listed(folder, manifest, name)
            if name in names:
                tensors[name.removesuffix(_TENSORS)] = _parse_tensors(name, data, device)
    return manifest["step"], Snapshot(tensors, state)


def read_state(folder: Path) -> dict[str, Json]:
    """Read the state of one checkpoint folder without its tensors; its checksum is compared."""
    with _reading(folder):
        return _read_state(folder, read_manifest(folder))


@contextmanager
def validate_contents(where: Path | str) -> Iterator[None]:
    """Turn errors that unexpected contents of an untrusted file lead to into one CheckpointError that names it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except _UNEXPECTED as error:
        said = " ".join(str(error).split())[:100]
        raise CheckpointError(
            f"{where} is whole, but does not hold what this version of reverie expects ({type(error).__name__}: "
            f"{said}). Use the program that wrote it."
        ) from error


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint at {folder}; a checkpoint is a folder with {MANIFEST} in it.")
    try:
        yield
    except Damaged as found:
        raise CheckpointError(f"Checkpoint {folder} cannot be used: {found}; {_alternative(folder)}.") from found


def _read_state(folder: Path, manifest: dict[str, Json]) -> dict[str, Json]:
    data = read_listed(folder, manifest, STATE)
    with damage(STATE):
        state = parse_json(data)
    if not isinstance(state, dict):
        raise Damaged(f"{STATE} is not a dictionary")
    return state


def _read_shapes(folder: Path, manifest: dict[str, Json], name: str) -> dict[str, tuple[int, ...]]:
    """Read a safetensors header alone; `safe_open` would map the whole file."""
    with damage(name):
        check_file(folder / name, size=manifest["files"][name]["size"])
    try:
        with (folder / name).open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = parse_json(file.read(min(size, _HEADER_LIMIT)))
        return {key: tuple(map(operator.index, entry["shape"])) for key, entry in header.items() if key != "__metadata__"}
    except (Unreadable, OSError, AttributeError, KeyError, TypeError) as error:
        raise Damaged(f"{name} is not a valid safetensors file") from error


def _parse_tensors(name: str, data: bytes, device: torch.device | str) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = tensors_from_bytes(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Damaged(f"{name} is not a valid safetensors file") from error
    return {key: value.to(device) for key, value in tensors.items()}


def _alternative(folder: Path) -> str:
    """Return the words to type when `folder` is damaged."""
    damaged = folder.resolve()
    for other in reversed(checkpoints_in(folder.parent)):
        if other.resolve() != damaged and is_valid(other):
            if folder.parent.name != CHECKPOINTS:
                return f"{other} in the same folder is undamaged"
            repair = command_line("verify", folder.parent.parent, "--repair")
            return f"`{repair}` puts it aside, and --resume then continues from {other.name}"
    return "the folder has no other undamaged checkpoint, so restore it from a copy"

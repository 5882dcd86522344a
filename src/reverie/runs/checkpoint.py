"""Checkpoints: folders of safetensors and JSON that are whole or absent, and never pickled.

    step-000012000/
        tensors.safetensors     weights, optimizers, random generators, ..., named GROUP/NAME
        state.json              counters, numpy generators and other JSON
        manifest.json           format, package version, step, score; size and SHA-256 of both files, and its own

A checkpoint is written under a temporary name, flushed to the disk, read back, and renamed. Equal snapshots give equal
bytes: nothing depends on time or machine.
"""

import errno
import hashlib
import operator
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    make_dir,
    naming,
    parse_json,
    read_file,
    remove,
    sync,
    to_json,
    write_synced,
)
from reverie.runs.layout import CHECKPOINTS
from reverie.shell import command_line

FORMAT = 2
MANIFEST, STATE, TENSORS = "manifest.json", "state.json", "tensors.safetensors"
TEMPORARY = ".tmp-"
_STEP_NAME = re.compile(r"step-([0-9]{9,15})(?:-([0-9]{1,9}))?")
_MANIFEST_LIMIT = 1 << 20  # Bytes; a usual manifest has about a thousand.
_HEADER_LIMIT = 1 << 25  # Bytes; a tensor takes about a hundred.
_UNEXPECTED = (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError)

Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Shape of each tensor, by group and name."""


@dataclass(frozen=True)
class Snapshot:
    """State of an agent or a run, as tensors by group and JSON."""

    tensors: dict[str, dict[str, torch.Tensor]]  # by group, such as `weights`, and name; no empty group is stored
    state: dict[str, Json]  # counters, numpy generator states, the replay's commit, ...


def checkpoints_in(directory: Path) -> tuple[Path, ...]:
    """Return the checkpoints in a folder, oldest first, valid or not."""
    found = (path for path in directory.glob("step-*") if _STEP_NAME.fullmatch(path.name) and path.is_dir())
    return tuple(sorted(found, key=lambda path: step_and_copy(path.name)))


def step_and_copy(name: str) -> tuple[int, int]:
    """Return step and copy of a checkpoint's name: the second one of a step ends in -2."""
    _, step, copy = f"{name}-1".split("-")[:3]
    return int(step), int(copy)


def is_checkpoint(path: Path) -> bool:
    """Return whether a folder holds a checkpoint or is named like one; it may be damaged."""
    return path.is_dir() and ((path / MANIFEST).exists() or _STEP_NAME.fullmatch(path.name) is not None)


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
    temporary, old = (folder.with_name(TEMPORARY + name) for name in (folder.name, f"old-{folder.name}"))
    with disk_errors(f"The checkpoint of step {step:,} could not be written to {folder}"):
        is_replacement = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if is_replacement and not (folder / MANIFEST).is_file():
            raise CheckpointError(f"{folder} holds something other than a checkpoint. Choose another name for this.")
        make_dir(folder.parent)
        remove(temporary)
        try:
            _write_files(temporary, step, snapshot, score)
            if damage := verify_checkpoint(temporary):
                raise CheckpointError(f"{folder} was not kept: the disk returned other data, {damage}. Check the disk.")
            if is_replacement:
                remove(old)
                os.replace(folder, old)
            os.replace(temporary, folder)
        except BaseException:
            with suppress(OSError):
                if is_replacement and not folder.exists():
                    os.replace(old, folder)
                remove(temporary)
            raise
        sync(folder.parent)
        remove(old)


def _write_files(folder: Path, step: int, snapshot: Snapshot, score: float | None) -> None:
    tensors = {  # safetensors needs each tensor contiguous and in memory of its own.
        f"{group}/{name}": tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for group, part in snapshot.tensors.items()
        for name, tensor in part.items()
    }
    contents = {STATE: to_json(snapshot.state), TENSORS: tensors_to_bytes(tensors)}
    manifest = {
        "format": FORMAT,
        "package": reverie_version() or "unknown",
        "step": step,
        "score": score,
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in contents.items()
        },
    }
    folder.mkdir()
    for name, data in {**contents, MANIFEST: dumps_checksummed(manifest)}.items():
        write_synced(folder / name, data)
    sync(folder)


def read_manifest(folder: Path) -> dict[str, Json]:
    """Read the manifest of a checkpoint; raise Unreadable if it is missing, damaged, or of another format."""
    with naming(MANIFEST):
        data = read_file(folder / MANIFEST, limit=_MANIFEST_LIMIT)
        manifest = parse_json(data)
        if "format" not in manifest:
            raise Unreadable("is not a checkpoint's manifest")
        if manifest["format"] != FORMAT:
            raise Unreadable(
                f"says format {str(manifest['format'])[:20]}, written by reverie {str(manifest.get('package'))[:20]}, "
                f"while this version reads format {FORMAT}"
            )
        manifest = loads_checksummed(data)
        # An untrusted manifest can have a correct checksum.
        step, score, files = (manifest.get(name) for name in ("step", "score", "files"))
        if type(step) is not int or step < 0 or not (score is None or type(score) in (int, float)):
            raise Unreadable("has no valid step and score")
        if not isinstance(files, dict) or files.keys() != {STATE, TENSORS}:
            raise Unreadable(f"does not list {STATE} and {TENSORS}")
        if not all(isinstance(entry, dict) and type(entry.get("size")) is int for entry in files.values()):
            raise Unreadable("does not give the size of each file")
        if (match := _STEP_NAME.fullmatch(folder.resolve().name)) and int(match[1]) != step:
            raise Unreadable(f"is of step {step}, another than the folder's name says")
    return manifest


def _read_listed(folder: Path, manifest: dict[str, Json], name: str) -> bytes:
    entry = manifest["files"][name]
    with naming(name):
        data = read_file(folder / name, size=entry["size"])
        if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
            raise Unreadable("does not have its checksum")
    return data


def verify_checkpoint(folder: Path) -> str:
    """Return the first damage of a checkpoint; empty if every file has its checksum."""
    try:
        manifest = read_manifest(folder)
        for name in manifest["files"]:
            _read_listed(folder, manifest, name)
    except Unreadable as found:
        return str(found)
    return ""


def read_checkpoint(
    folder: Path, check: Callable[[dict[str, Json], Shapes], None] | None = None
) -> tuple[int, Snapshot]:
    """Read one checkpoint folder; checksums are compared before anything is interpreted.

    Args:
        folder: the checkpoint's folder, or a link to it.
        check: called with the state and the shapes of all tensors before any tensor is read; raises to refuse them.

    Returns:
        Agent steps taken so far, and the snapshot as it was written, on the CPU (JSON makes lists of tuples).

    Raises:
        CheckpointError: if it is missing or damaged; names the file, and a valid checkpoint in the same folder.
    """
    with _reading(folder):
        manifest = read_manifest(folder)
        state = _read_state(folder, manifest)
        if check is not None:
            shapes = _by_group(_read_shapes(folder, manifest))
            with validate_contents(folder):
                check(state, shapes)
        data = _read_listed(folder, manifest, TENSORS)
        try:
            tensors = tensors_from_bytes(data)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"{TENSORS} is not a valid safetensors file") from error
    return manifest["step"], Snapshot(_by_group(tensors), state)


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


def _read_state(folder: Path, manifest: dict[str, Json]) -> dict[str, Json]:
    data = _read_listed(folder, manifest, STATE)
    with naming(STATE):
        return parse_json(data)


def _read_shapes(folder: Path, manifest: dict[str, Json]) -> dict[str, tuple[int, ...]]:
    """Read the header of the tensors alone; `safe_open` would map the whole file."""
    with naming(TENSORS):
        data = read_file(folder / TENSORS, size=manifest["files"][TENSORS]["size"], head=_HEADER_LIMIT)
        try:
            header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
            header.pop("__metadata__", None)
            return {key: tuple(map(operator.index, entry["shape"])) for key, entry in header.items()}
        except (Unreadable, KeyError, TypeError) as error:
            raise Unreadable("is not a valid safetensors file") from error


def _by_group(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    grouped = defaultdict[str, dict[str, Any]](dict)
    for key, value in values.items():
        group, _, name = key.partition("/")
        grouped[group][name] = value
    return grouped


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint at {folder}; a checkpoint is a folder with {MANIFEST} in it.")
    try:
        yield
    except Unreadable as found:
        raise CheckpointError(f"Checkpoint {folder} cannot be used: {found}; {_alternative(folder)}.") from found


def _alternative(folder: Path) -> str:
    """Return the words to type when `folder` is damaged."""
    damaged = folder.resolve()
    for other in reversed(checkpoints_in(folder.parent)):
        if other.resolve() != damaged and not verify_checkpoint(other):
            if folder.parent.name != CHECKPOINTS:
                return f"{other} in the same folder is undamaged"
            repair = command_line("verify", folder.parent.parent, "--repair")
            return f"`{repair}` puts it aside, and --resume then continues from {other.name}"
    return "the folder has no other undamaged checkpoint, so restore it from a copy"


@contextmanager
def disk_errors(problem: str) -> Iterator[None]:
    """Turn an OSError into a CheckpointError."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "Free some space" if is_full else "Check the disk and the folder's permissions"
        raise CheckpointError(
            f"{problem} ({error.strerror or error}). Earlier ones are intact. {advice}, then try again, a run with "
            "--resume."
        ) from error

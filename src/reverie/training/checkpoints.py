"""Checkpoints on disk: folders of safetensors and JSON that are whole or absent, and never pickled.

A checkpoint is a folder

    step-000012000/
        agent.safetensors ...   one file per group of tensors
        state.json              counters, numpy generators and whatever else JSON can hold
        manifest.json           format, package version, step, score; size and SHA-256 of every other file

It is written under a temporary name, flushed to the disk, read back, and renamed. The manifest carries a checksum of
itself, so that every changed byte is noticed. Equal snapshots give equal bytes: nothing depends on time or machine.
"""

import errno
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from reverie.errors import CheckpointError

Json: TypeAlias = Any
"""None, bool, int, float, str, and lists and dictionaries (with str keys) of these."""

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
_MANIFEST_LIMIT = 1 << 20  # bytes; a real one has about a thousand
_TEMPORARY = ".tmp-"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.(safetensors|json)")
_STEP_NAME = re.compile(r"step-([0-9]{9,15})(?:-([0-9]{1,9}))?")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Snapshot:
    """Everything that learning needs to go on, in a form that can be written."""

    tensors: dict[str, dict[str, torch.Tensor]]
    """File stem -> name -> tensor, for example {"agent": {...}, "optimizers": {...}, "generators": {...}}."""
    state: dict[str, Json]
    """Counters, numpy generator states, replay position, ..."""


class _Damaged(Exception):
    """What is wrong with a checkpoint folder; becomes a CheckpointError where the folder's name is known."""


# Writing


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
        texts: further files, for example {"config.json": ...}; covered by the manifest.

    Raises:
        CheckpointError: if the disk is full or does not let us, or `folder` holds something else.
    """
    folder = Path(os.path.abspath(folder))
    try:
        _write(folder, step, snapshot, score, texts or {})
    except OSError as error:
        raise CheckpointError(f"{folder} could not be written ({_reason(error)}); {_remedy(error)}.") from error


def _write(folder: Path, step: int, snapshot: Snapshot, score: float | None, texts: Mapping[str, str]) -> None:
    temporary = folder.with_name(_TEMPORARY + folder.name)
    replaced = folder.with_name(_TEMPORARY + "old-" + folder.name)
    occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if occupied and not (folder / MANIFEST).is_file():
        raise CheckpointError(f"{folder} holds something other than a checkpoint; choose another name for this one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove(temporary)
    try:
        temporary.mkdir()
        files = {}
        for name, data in _contents(snapshot, texts):
            _write_file(temporary / name, data)
            files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        manifest = {"format": FORMAT, "package": _package_version(), "step": step, "score": score, "files": files}
        _write_file(temporary / MANIFEST, _to_json({**manifest, "sha256": _seal(manifest)}))
        _sync_folder(temporary)
        _verify(temporary)
        if occupied:
            _remove(replaced)
            os.replace(folder, replaced)
        os.replace(temporary, folder)
    except BaseException as error:
        with suppress(OSError):
            if occupied and not folder.exists():
                os.replace(replaced, folder)
            _remove(temporary)
        if isinstance(error, _Damaged):
            raise CheckpointError(f"{folder} was not kept: the disk gave back other data, {error}.") from error
        raise
    _sync_folder(folder.parent)
    _remove(replaced)


def _contents(snapshot: Snapshot, texts: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """File names with their bytes; one at a time, since a group can be large."""
    yield STATE, _to_json(snapshot.state)
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


def _sync_folder(path: Path) -> None:
    """Make renames inside the folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync files only
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_json(value: Json) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _seal(manifest: Mapping[str, Json]) -> str:
    return hashlib.sha256(_to_json(dict(manifest))).hexdigest()


def _package_version() -> str:
    try:
        return version("reverie")
    except PackageNotFoundError:
        return "unknown"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _remedy(error: OSError) -> str:
    return "free some space" if error.errno in _NO_SPACE else "check the disk and the folder's permissions"


# Reading


def read_checkpoint(folder: Path, device: torch.device | str = "cpu") -> tuple[int, Snapshot]:
    """Read one checkpoint folder; checksums are compared before anything is interpreted.

    Args:
        folder: the checkpoint's folder, or a link to it.
        device: where the tensors go.

    Returns:
        Agent steps taken so far, and the snapshot as it was written (JSON makes lists of tuples).

    Raises:
        CheckpointError: if it is missing or damaged; names the file, and another sound checkpoint beside it.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint at {folder}; a checkpoint is a folder with {MANIFEST} in it.")
    try:
        manifest = _read_manifest(folder)
        tensors = {}
        state: Json = None
        for name in manifest["files"]:
            data = _read_listed(folder, manifest, name)
            if name == STATE:
                state = _parse_state(data)
            elif name.endswith(".safetensors"):
                tensors[name.removesuffix(".safetensors")] = _parse_tensors(name, data, device)
    except _Damaged as damage:
        raise CheckpointError(f"Checkpoint {folder} cannot be used: {damage}; {_alternative(folder)}.") from damage
    return manifest["step"], Snapshot(tensors, state)


def is_sound(folder: Path) -> bool:
    """Whether every file of a checkpoint is there and has its checksum."""
    try:
        _verify(folder)
    except _Damaged:
        return False
    return True


def _verify(folder: Path) -> None:
    manifest = _read_manifest(folder)
    for name in manifest["files"]:
        _read_listed(folder, manifest, name)


def _read_manifest(folder: Path) -> dict[str, Json]:
    data = _read_file(folder, MANIFEST, limit=_MANIFEST_LIMIT)
    manifest = _parse_json(MANIFEST, data)
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise _Damaged(f"{MANIFEST} is not a checkpoint's manifest")
    if manifest["format"] != FORMAT:
        raise _Damaged(
            f"{MANIFEST} says format {str(manifest['format'])[:20]}, written by reverie "
            f"{str(manifest.get('package'))[:20]}, while this version reads format {FORMAT}"
        )
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    # Comparing the text as well finds changes that parsing forgives, such as white space or a key given twice.
    if manifest.get("sha256") != _seal(body) or _to_json(manifest) != data:
        raise _Damaged(f"{MANIFEST} does not have its checksum")
    _check_fields(manifest)
    name = folder.resolve().name
    if _STEP_NAME.fullmatch(name) and _order(name)[0] != manifest["step"]:
        raise _Damaged(f"{MANIFEST} is of step {manifest['step']}, another than the folder's name says")
    return manifest


def _check_fields(manifest: dict[str, Json]) -> None:
    """A manifest from a stranger can have a right checksum and wrong contents."""
    step, score, files = manifest.get("step"), manifest.get("score"), manifest.get("files")
    if type(step) is not int or step < 0 or not (score is None or type(score) in (int, float)):
        raise _Damaged(f"{MANIFEST} has no valid step and score")
    if not isinstance(files, dict) or STATE not in files:
        raise _Damaged(f"{MANIFEST} does not list {STATE}")
    for name, entry in files.items():
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise _Damaged(f"{MANIFEST} lists '{name[:80]}', which is not the name of a file in a checkpoint")
        if not isinstance(entry, dict) or type(entry.get("size")) is not int:
            raise _Damaged(f"{MANIFEST} does not give the size of {name}")


def _read_listed(folder: Path, manifest: dict[str, Json], name: str) -> bytes:
    entry = manifest["files"][name]
    data = _read_file(folder, name, size=entry["size"])
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise _Damaged(f"{name} does not have its checksum")
    return data


def _read_file(folder: Path, name: str, size: int | None = None, limit: int | None = None) -> bytes:
    path = folder / name
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise _Damaged(f"{name} is not a file")
        # Sizes come first: no memory is taken for a file that is wrong anyway.
        if size is not None and status.st_size != size:
            raise _Damaged(f"{name} has {status.st_size} bytes instead of {size}")
        if limit is not None and status.st_size > limit:
            raise _Damaged(f"{name} is too large with {status.st_size} bytes")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _Damaged(f"{name} is missing") from error
    except OSError as error:
        raise _Damaged(f"{name} cannot be read ({_reason(error)})") from error


def _parse_json(name: str, data: bytes) -> Json:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Damaged(f"{name} is not valid JSON") from error


def _parse_state(data: bytes) -> dict[str, Json]:
    state = _parse_json(STATE, data)
    if not isinstance(state, dict):
        raise _Damaged(f"{STATE} is not a dictionary")
    return state


def _parse_tensors(name: str, data: bytes, device: torch.device | str) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = tensors_from_bytes(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _Damaged(f"{name} is not a valid safetensors file") from error
    return {key: value.to(device) for key, value in tensors.items()}


def _alternative(folder: Path) -> str:
    """The words to type when `folder` is damaged."""
    damaged = folder.resolve()
    for other in reversed(_steps_in(folder.parent)):
        if other.resolve() != damaged and is_sound(other):
            return (
                f"the newest sound one is {other.name}: see its score with `reverie eval {shlex.quote(str(other))}`, "
                f"or delete {damaged.name} and train on from it with --resume"
            )
    return "there is no sound checkpoint beside it"


def _steps_in(directory: Path) -> tuple[Path, ...]:
    """The checkpoints of a folder, oldest first."""
    found = []
    with suppress(FileNotFoundError, NotADirectoryError):
        found = [path for path in directory.iterdir() if _STEP_NAME.fullmatch(path.name) and path.is_dir()]
    return tuple(sorted(found, key=lambda path: _order(path.name)))


def _order(name: str) -> tuple[int, int]:
    """Step and copy of a checkpoint's name: a second one of the same step ends in -2."""
    match = _STEP_NAME.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[2] or 1)


def is_checkpoint(path: Path) -> bool:
    """Whether this is a folder that holds a checkpoint or is named like one; says nothing of its health."""
    return path.is_dir() and ((path / MANIFEST).exists() or _STEP_NAME.fullmatch(path.name) is not None)


# Keeping several


class Checkpoints:
    """The checkpoints of a run: the last `keep`, and the one with the best score, to which `best` is a link.

    Only the process that holds the run's lock may save; others may read at any time.
    """

    def __init__(self, directory: Path, keep: int = 3) -> None:
        """`directory` need not exist yet; `keep` is at least 1."""
        if keep < 1:
            raise ValueError(f"keep is {keep}, but at least one checkpoint must be kept")
        self.directory = Path(directory)
        self.keep = keep

    def save(self, step: int, snapshot: Snapshot, score: float | None = None) -> Path:
        """Write a checkpoint, then remove what need not be kept any longer.

        Args:
            step: agent steps taken so far.
            snapshot: what to write.
            score: mean evaluation return that belongs to these weights, if any. The highest one is kept; of equal
                ones the latest.

        Returns:
            The new folder.

        Raises:
            CheckpointError: if the disk is full, or does not let us. Earlier checkpoints are intact then.
        """
        if score is not None:
            score = float(score) if math.isfinite(score) else None
        previous = self.latest()
        try:
            self._clean()
            folder = self._name(step)
            _write(folder, step, snapshot, score, {})
        except OSError as error:
            kept = f"{previous.name} is intact" if previous else "there is no earlier one"
            raise CheckpointError(
                f"The checkpoint of step {step} could not be written to {self.directory} ({_reason(error)}); "
                f"{kept}: {_remedy(error)}, then go on with --resume."
            ) from error
        try:
            self._link_best()
            _sync_folder(self.directory)  # the link must not point to what is removed next
            self._prune(folder)
        except OSError as error:
            raise CheckpointError(
                f"{folder} is written, but earlier checkpoints in {self.directory} could not be tidied up "
                f"({_reason(error)}); {_remedy(error)}, then go on with --resume."
            ) from error
        return folder

    def list(self) -> tuple[Path, ...]:
        """Every checkpoint, oldest first; `best` is one of them and not listed again."""
        return _steps_in(self.directory)

    def latest(self) -> Path | None:
        """The newest checkpoint, sound or not; None if there is none."""
        return self.list()[-1] if self.list() else None

    def latest_sound(self) -> Path | None:
        """The newest checkpoint whose checksums are right; reads every byte of it."""
        return next((path for path in reversed(self.list()) if is_sound(path)), None)

    def best(self) -> Path | None:
        """The checkpoint with the highest score, the newest of equal ones; None if none has a score."""
        best, best_score = None, -math.inf
        for path in self.list():
            with suppress(_Damaged):
                score = _read_manifest(path)["score"]
                if score is not None and score >= best_score:
                    best, best_score = path, score
        return best

    def load(self, path: Path | None = None, device: torch.device | str = "cpu") -> tuple[int, Snapshot]:
        """Read a checkpoint, the newest one by default; see `read_checkpoint`.

        Raises:
            CheckpointError: if there is none, or it is damaged. It never falls back silently: the message names a
                sound one and how to go on from it.
        """
        if path is not None:
            return read_checkpoint(Path(path), device)
        while (latest := self.latest()) is not None:
            try:
                return read_checkpoint(latest, device)
            except CheckpointError:
                if latest.exists():
                    raise
                # A run that is still going on removed it while we read; it has written a newer one.
        raise CheckpointError(f"There is no checkpoint in {self.directory}: no folder there is named step-*.")

    def _name(self, step: int) -> Path:
        """A name that is free: a checkpoint is never overwritten, not even by a later one of the same step."""
        copies = [copy for other, copy in map(_order, (path.name for path in self.list())) if other == step]
        return self.directory / (f"step-{step:09d}" + (f"-{max(copies) + 1}" if copies else ""))

    def _clean(self) -> None:
        """Remove what a killed process left half written or half removed."""
        for path in self.directory.glob(_TEMPORARY + "*"):
            _remove(path)

    def _link_best(self) -> None:
        best, link = self.best(), self.directory / "best"
        if best is None or (link.is_symlink() and os.readlink(link) == best.name):
            return
        if link.is_dir() and not link.is_symlink():  # the run was copied by a tool that follows links
            self._discard(link)
        temporary = self.directory / (_TEMPORARY + "best")
        try:
            os.symlink(best.name, temporary)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP):  # a file system without links; best() still finds it
                return
            raise
        os.replace(temporary, link)

    def _prune(self, written: Path) -> None:
        newest = {_order(path.name)[0]: path for path in self.list()}  # of one step only the last copy counts
        kept = {written, self.best(), *[*newest.values()][-self.keep :]}
        for path in self.list():
            if path not in kept:
                self._discard(path)

    def _discard(self, path: Path) -> None:
        # Renamed first, so that a checkpoint half removed is never taken for a damaged one.
        doomed = path.with_name(_TEMPORARY + "old-" + path.name)
        _remove(doomed)
        os.replace(path, doomed)
        _remove(doomed)


# Random generators


def numpy_state(generator: np.random.Generator) -> Json:
    """State of a numpy generator as JSON (with integers of any size). Children spawned so far are not counted."""
    return _arrays_to_json(dict(generator.bit_generator.state))


def restore_numpy(generator: np.random.Generator, state: Json) -> None:
    """Set a numpy generator, in place, to what `numpy_state` gave for one of the same kind.

    Raises:
        CheckpointError: if the state is not one of this kind of generator.
    """
    try:
        generator.bit_generator.state = _arrays_from_json(state)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        kind = type(generator.bit_generator).__name__
        raise CheckpointError(f"The checkpoint's random state does not fit numpy's {kind} generator.") from error


def torch_state(generator: torch.Generator) -> torch.Tensor:
    """State of a torch generator: uint8 [n] on the CPU."""
    return generator.get_state()


def restore_torch(generator: torch.Generator, state: torch.Tensor) -> bool:
    """Set a torch generator to what `torch_state` gave.

    Returns:
        False, and nothing is changed, if the state is of another kind of device: the run goes on with other random
        numbers then.
    """
    state = state.cpu()
    if state.dtype != torch.uint8 or state.shape != generator.get_state().shape:
        return False
    generator.set_state(state)
    return True


def _arrays_to_json(value: Json) -> Json:
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, dict):
        return {key: _arrays_to_json(entry) for key, entry in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _arrays_from_json(value: Json) -> Json:
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "dtype"}:
        return np.array(value["array"], dtype=np.dtype(value["dtype"]))
    return {key: _arrays_from_json(entry) for key, entry in value.items()}

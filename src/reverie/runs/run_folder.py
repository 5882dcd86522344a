"""The folder of a run: what lies where, who may write, and how a path from the command line is understood.

RUN/
    config.toml       the resolved configuration: that of the start, with all options given on resume since
    about.json        names of preset and variant, and each start: command, versions, commit, machine, precision
    metrics.jsonl     one row of metrics a line
    tensorboard/      the same for TensorBoard
    checkpoints/      see reverie.runs.checkpoints
    replay.db         see reverie.replay
    videos/           open-loop predictions
    failures/         updates that ended a run (see `reverie.training.skips`)
    lock.json         who writes: process, host, time; the lock itself is the system's and dies with the process
"""

import errno
import fcntl
import json
import os
import shlex
import shutil
import socket
import warnings
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from reverie.config import Config, diff, load_config, to_toml
from reverie.errors import CheckpointError, RunError
from reverie.replay import REPLAY, delete_replay, has_steps
from reverie.runs.atomic_io import write_whole
from reverie.runs.checkpoints import MANIFEST, Checkpoints, is_checkpoint
from reverie.runs.launches import ABOUT
from reverie.runs.locks import hold, release

CONFIG = "config.toml"
METRICS = "metrics.jsonl"
LOCK = "lock.json"
_FOLDERS = ("tensorboard", "checkpoints", "videos")
_RESULTS = (METRICS, "checkpoints", REPLAY, "videos")
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


class RunFolder:
    """Paths of a run. `RunFolder(path)` only reads and needs no lock; `RunFolder.create` is for the one that writes.

    A created folder is locked until `close`, the end of a `with` block, or the end of the process, however it ends.
    Nothing else is changed in it before `begin`: a start that is refused leaves every file as it was.
    """

    def __init__(self, path: Path | str) -> None:
        """Nothing is read or written yet."""
        self.path = Path(path)
        self.config_path = self.path / CONFIG
        self.metrics = self.path / METRICS
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.replay = self.path / REPLAY
        self.videos = self.path / "videos"
        self.failures = self.path / "failures"
        self.resumed = False
        """True where there is a checkpoint to continue from."""
        self._lock: int | None = None
        self._former_owner: bytes | None = None  # what the lock's file held; None if there was none
        self._begun = False
        self._made: list[str] = []  # what `create` and `begin` add to the folder, and "" for the folder itself

    @classmethod
    def create(cls, path: Path | str, config: Config, resume: bool = False) -> "RunFolder":
        """Lock a folder for training.

        With `resume`, `resumed` is true for a run that has a checkpoint, and its own configuration is
        `saved_config()`. A run that stopped before it produced anything is started afresh, as is a new folder.

        Args:
            path: the folder; it and its parents are created.
            config: what is to be trained.
            resume: continue the run in the folder.

        Raises:
            RunError: if the folder is in use, cannot be written, or holds a run and `resume` is false; or if it is
                to be resumed and has results but no checkpoint, or is of another environment or seed.
        """
        folder = cls(path)
        if folder.path.is_file():
            raise RunError(f"{path} is a file and not a folder; choose another --logdir.")
        try:
            made = [name for name in (LOCK, "") if not (folder.path / name).exists()]
            folder.path.mkdir(parents=True, exist_ok=True)
            folder._take_lock()
            folder._made = [
                name for name in (CONFIG, ABOUT, METRICS, REPLAY, *_FOLDERS) if not (folder.path / name).exists()
            ] + made
            folder._check(config, resume)
        except OSError as error:
            folder.discard()
            folder.close()
            raise RunError(
                f"The run folder {folder.path} cannot be written ({error.strerror or error}); "
                "choose another --logdir or check the disk and its permissions."
            ) from error
        except BaseException:
            folder.discard()
            folder.close()
            raise
        return folder

    @classmethod
    def existing(cls, path: Path | str) -> "RunFolder":
        """The folder of a run that exists, for reading.

        Raises:
            RunError: if it is no run.
        """
        folder = cls(path)
        if not folder.config_path.exists() and Checkpoints(folder.checkpoints).latest() is None:
            raise RunError(f"{path} is not the folder of a run: there is no {CONFIG} in it, and no checkpoint.")
        return folder

    @classmethod
    def hold(cls, path: Path | str) -> "RunFolder":
        """Lock the folder of a run that exists, to change something in it.

        Raises:
            RunError: if it is in use, cannot be written, or is no run.
        """
        folder = cls.existing(path)
        try:
            folder._take_lock()
        except OSError as error:
            raise RunError(f"The run folder {path} cannot be written ({error.strerror or error}).") from error
        return folder

    def saved_config(self) -> Config:
        """The run's configuration: that of its start, with all options given on resume since.

        Raises:
            ConfigError: if it is missing or damaged.
        """
        return load_config(self.config_path)

    def begin(self, config: Config) -> None:
        """Lay the folder out and save the configuration, which replaces that of a resumed run.

        Raises:
            RunError: if it cannot be written.
        """
        self._begun = True
        try:
            if not self.resumed:  # what a run that was killed before its first checkpoint has left
                shutil.rmtree(self.checkpoints, ignore_errors=True)
                delete_replay(self.replay)
            for name in _FOLDERS:
                (self.path / name).mkdir(exist_ok=True)
            write_whole(self.config_path, to_toml(config).encode())
        except OSError as error:
            raise RunError(f"{self.path} cannot be written ({error.strerror}); check the disk.") from error

    def discard(self) -> None:
        """Remove what was added, unless there is a checkpoint by now; the folder is as unused as before."""
        if self.resumed or self._lock is None or Checkpoints(self.checkpoints).latest() is not None:
            return
        with suppress(OSError):
            for path in (self.path / name for name in self._made):
                if path == self.path:
                    path.rmdir()  # only if nobody else has put something there
                elif path == self.replay:
                    delete_replay(path)
                elif path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back; its file then names the former owner again if nothing was begun."""
        if self._lock is None:
            return
        if not self._begun:
            with suppress(OSError):
                if self._former_owner is not None:
                    self._write_owner(self._former_owner)
                elif self._is_open(self._lock):
                    (self.path / LOCK).unlink()
        release(self._lock)
        self._lock = None

    def __enter__(self) -> "RunFolder":
        """The folder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        self.close()

    def _check(self, config: Config, resume: bool) -> None:
        if (self.path / MANIFEST).exists():
            raise RunError(f"{self.path} holds a saved agent and not a run; choose another --logdir.")
        if (self.path / "replay" / "index.json").exists():
            raise RunError(
                f"The replay in {self.path} was written by an older reverie. It cannot be read. Train again in another "
                "--logdir."
            )
        results = [name for name in _RESULTS if _has_content(self.path / name)]
        if not resume and (results or self.config_path.exists()):
            raise RunError(
                f"{self.path} already holds a run; type --resume to continue it, or choose another --logdir."
            )
        self.resumed = Checkpoints(self.checkpoints).latest() is not None
        saved = saved_settings(self.path) if resume else None
        if self.resumed and saved is not None:
            self._check_same_run(config, saved)
        elif results and not self._is_bare():
            raise RunError(
                f"{self.path} cannot be resumed: it has {' and '.join(results)} but no checkpoint, since it stopped "
                f"before the first one; type `rm -r {shlex.quote(str(self.path))}` to start afresh, or choose another "
                "--logdir."
            )

    def _check_same_run(self, config: Config, saved: Config) -> None:
        if (there := saved.env.name) != config.env.name:
            raise RunError(
                f"The run in {self.path} is of {there} and cannot continue with {config.env.name}; name {there}, or "
                "choose another --logdir."
            )
        if (seed := saved.training.seed) != config.training.seed:
            raise RunError(
                f"The run in {self.path} has seed {seed} and cannot continue with seed {config.training.seed}; "
                "leave --seed out, or choose another --logdir."
            )

    def _is_bare(self) -> bool:
        """Whether a run was killed before its first checkpoint: no step is stored, and nothing is measured or drawn."""
        stored = has_steps(self.replay) or any(self.checkpoints.glob("[!.]*"))
        return not (stored or _has_content(self.metrics) or _has_content(self.videos))

    def _take_lock(self) -> None:
        path = self.path / LOCK
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_open(descriptor):
                os.close(descriptor)  # its former owner has just discarded the folder
                self.path.mkdir(parents=True, exist_ok=True)
                return self._take_lock()
        except BlockingIOError:
            os.close(descriptor)
            raise RunError(
                f"{self.path} is in use by {_owner(path)}; stop that process first, or choose another --logdir."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            message = f"The file system of {self.path} has no locks; see to it that no other process trains there."
            warnings.warn(message, stacklevel=3)
        self._lock = descriptor
        hold(descriptor)
        self._former_owner = None if is_new else os.pread(descriptor, 1 << 20, 0)
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
        self._write_owner((json.dumps(owner) + "\n").encode())

    def _is_open(self, descriptor: int) -> bool:
        """Return whether this is the lock's file, and not one that was removed since."""
        path = self.path / LOCK
        return path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())

    def _write_owner(self, owner: bytes) -> None:
        assert self._lock is not None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, owner, 0)


def saved_settings(run: Path | str) -> Config | None:
    """Return the configuration in a run's folder, which a resumed run starts from; None if there is no run.

    Raises:
        ConfigError: if the file cannot be read, or holds an unknown or unfitting setting.
        RunError: if there are checkpoints or metrics, but no configuration.
    """
    folder = RunFolder(run)
    if folder.config_path.is_file():
        return folder.saved_config()
    if any(folder.checkpoints.glob("[!.]*")) or _has_content(folder.metrics):
        raise RunError(
            f"{folder.path} cannot be resumed, since its {CONFIG} is missing. Restore it from a copy, or choose "
            "another --logdir."
        )
    return None


class Found(NamedTuple):
    """What a path from the command line stands for."""

    config: Path | None
    """The `config.toml` that lies with it; None if there is none, as for a saved agent."""
    checkpoint: Path


def find_run(path: Path | str) -> Found:
    """Find the checkpoint that a path means, and the configuration that lies with it.

    Args:
        path: a run folder (its newest checkpoint), a checkpoint folder in it (`RUN/checkpoints/best`, too), the
            folder of a saved agent, or a file in one of them.

    Raises:
        RunError: if there is nothing, or something else.
        CheckpointError: if the run has no checkpoint.
    """
    given, path = path, Path(os.path.abspath(path))
    if not path.exists():
        raise RunError(f"There is nothing at {given}; give the folder of a run, of a checkpoint or of a saved agent.")
    if path.is_file():
        path = path.parent
    if is_checkpoint(path):
        in_run = path.parent.name == "checkpoints"
        configs = [path / CONFIG, *([path.parent.parent / CONFIG] if in_run else [])]
        return Found(next((config for config in configs if config.is_file()), None), path)
    folder = RunFolder(path.parent if path.name == "checkpoints" else path)
    config = folder.config_path if folder.config_path.is_file() else None
    checkpoint = Checkpoints(folder.checkpoints).latest()
    if checkpoint is not None:
        return Found(config, checkpoint)
    if config is None:
        raise RunError(f"{given} is not the folder of a run, of a checkpoint or of a saved agent: no {CONFIG} in it.")
    raise CheckpointError(
        f"The run {given} has no checkpoint yet: there is no {folder.checkpoints / 'step-*'}; let it train longer."
    )


def config_changes(saved: Config, given: Config) -> dict[str, tuple[Any, Any]]:
    """What a resumed run would change: path of each setting that differs, with its saved and its given value."""
    return {path: (old, new) for path, old, new in diff(given, saved)}


def _has_content(path: Path) -> bool:
    if path.is_dir():
        return any(path.iterdir())
    return path.exists() and path.stat().st_size > 0


def _owner(lock: Path) -> str:
    """Who holds a lock, in words; a lock that was just taken may not say it yet."""
    try:
        owner = json.loads(lock.read_text())
        return f"process {int(owner['pid'])} on {owner['host']} since {owner['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"

"""The folder of a run: its lock, and the checks before a run is started or resumed in it."""

import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock

from reverie.config import Config, load_config, to_toml
from reverie.errors import CheckpointError, RunError
from reverie.replay import REPLAY, has_steps
from reverie.runs.atomic_io import atomic_write, make_dir, remove
from reverie.runs.checkpoint import MANIFEST, is_checkpoint
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.layout import (
    CHECKPOINTS,
    CONFIG,
    CONTENT,
    LOCK,
    METRICS,
    REPLAY_FILES,
    STAGED,
    VALIDATION_FILES,
    VIDEOS,
    RunPaths,
)
from reverie.runs.locks import acquire_lock, is_locked


class RunFolder(RunPaths):
    """Folder of a run. `RunFolder(path)` reads and needs no lock; `RunFolder.create` locks it for training.

    It is locked until `close`, the end of a `with` block, or the end of the process. Nothing else is changed in it
    before `begin`: a start that is refused leaves every file as it was.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.resumed = False
        """True where there is a checkpoint to continue from."""
        self._lock: BaseFileLock | None = None
        self._overwrite = self._begun = self._is_new = False
        self._before: set[str] = set()  # Names that were there before the lock.

    @classmethod
    def create(cls, path: Path | str, config: Config, resume: bool = False, overwrite: bool = False) -> "RunFolder":
        """Lock a folder for training.

        With `resume`, `resumed` is true for a run that has a checkpoint. A run that stopped before it produced
        anything is started from its beginning, as is a new folder.

        Args:
            path: the folder; it and its parents are created.
            config: the configuration of the run.
            resume: continue the run in the folder.
            overwrite: replace the run in the folder. `begin` removes that run's files, and no others.

        Raises:
            RunError: if the folder is in use, cannot be written, or holds a run and neither `resume` nor `overwrite`
                is given; or if it is to be resumed and has results but no checkpoint, or is of another environment or
                seed.
        """
        if resume and overwrite:
            raise RunError("--resume continues a run and --overwrite replaces it. Nothing was done. Give one of them.")
        folder = cls(path)
        folder._overwrite = overwrite
        folder._acquire()
        try:
            folder._check(config, resume)
        except BaseException:
            folder.discard()
            folder.close()
            raise
        return folder

    @classmethod
    def existing(cls, path: Path | str) -> "RunFolder":
        """Return the folder of a run that exists, for reading; raise RunError if it is no run."""
        folder = cls(path)
        if not folder.config_path.exists() and not folder._has_checkpoint():
            raise RunError(f"{path} is not the folder of a run: there is no {CONFIG} in it, and no checkpoint.")
        return folder

    @classmethod
    def hold(cls, path: Path | str) -> "RunFolder":
        """Lock the folder of a run that exists; raise RunError if it is in use, cannot be written, or is no run."""
        folder = cls.existing(path)
        folder._acquire()
        return folder

    def is_locked(self) -> bool:
        """Return whether a process trains here."""
        return is_locked(self.lock_path)

    def saved_config(self) -> Config:
        """Return the run's configuration; raise ConfigError if it is missing or damaged."""
        return load_config(self.config_path)

    def begin(self, config: Config) -> None:
        """Create the folders and save the configuration, which replaces that of a resumed run."""
        self._begun = True
        # Without --overwrite, only what was left by a run that was killed before its first checkpoint.
        left = (*REPLAY_FILES, *VALIDATION_FILES, CHECKPOINTS)
        replaced = {*CONTENT} - {STAGED} if self._overwrite else () if self.resumed else left
        self._before -= {*replaced}
        try:
            for name in replaced:
                remove(self.path / name)
            for folder in (self.tensorboard, self.checkpoints, self.videos):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path} cannot be written ({error.strerror}). Check the disk.") from error
        atomic_write(self.config_path, to_toml(config).encode())

    def discard(self) -> None:
        """Remove what was added, unless there is a checkpoint by now; once closed the folder is as before."""
        if self._lock is None or self.resumed or self._has_checkpoint():
            return
        with suppress(OSError):
            for name in {*CONTENT} - self._before:
                remove(self.path / name)
        self._begun = False

    def close(self) -> None:
        """Release the lock. If nothing was begun, its file and the folder are removed where they are new."""
        if self._lock is None:
            return
        with suppress(OSError):
            self.owner_path.unlink(missing_ok=True)
            if not self._begun and LOCK not in self._before:
                self.lock_path.unlink(missing_ok=True)
            if not self._begun and self._is_new:
                self.path.rmdir()  # Fails if another process has put something there.
        self._lock.release()
        self._lock = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _acquire(self) -> None:
        try:
            self._is_new = not self.path.exists()
            make_dir(self.path)
            self._before = {path.name for path in self.path.iterdir()}
            self._lock = acquire_lock(self.lock_path)
            if self._lock is None:
                raise RunError(
                    f"{self.path} is in use by {self._owner()}. Stop that process first, or choose another --logdir."
                )
            started = datetime.now().astimezone().isoformat(timespec="seconds")
            owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
            self.owner_path.write_text(json.dumps(owner) + "\n")
        except OSError as error:
            self.close()
            raise RunError(
                f"The run folder {self.path} cannot be written ({error.strerror or error}). Check the disk and its "
                "permissions, or choose another --logdir."
            ) from error

    def _owner(self) -> str:
        try:
            owner = json.loads(self.owner_path.read_text())
            return f"process {int(owner['pid'])} on {owner['host']} since {owner['started']}"
        except (OSError, ValueError, KeyError, TypeError):  # It has just acquired the lock.
            return "another process"

    def _check(self, config: Config, resume: bool) -> None:
        """Set `resumed`; raise RunError if the folder is not to be trained in."""
        path = self.path
        if (path / MANIFEST).exists():
            raise RunError(f"{path} holds a saved agent and not a run. Choose another --logdir.")
        if self._overwrite:
            return
        stored = {
            METRICS: _has_content(self.metrics),
            CHECKPOINTS: any(self.checkpoints.glob("[!.]*")),
            REPLAY: _has_content(self.replay) and has_steps(self.replay),
            VIDEOS: _has_content(self.videos),
        }
        results = " and ".join(name for name, is_stored in stored.items() if is_stored)
        if not resume and (results or self.config_path.exists()):
            advice = "Type --resume to continue it, --overwrite to replace it, or choose another --logdir."
            raise RunError(f"{path} already holds a run. {advice}")
        self.resumed = self._has_checkpoint()
        saved = saved_settings(path) if resume else None
        if saved is None or not self.resumed:
            if results:
                advice = "Type --overwrite to start from the beginning, or choose another --logdir."
                raise RunError(f"{path} cannot be resumed: it has {results} but no checkpoint. {advice}")
            return
        there, given = saved.env.name, config.env.name
        if there != given:
            what = f"is of {there}" if there else "learns from recorded episodes without an environment"
            raise RunError(
                f"The run in {path} {what} and cannot continue {f'with {given}' if given else 'without it'}. "
                f"{f'Name {there}' if there else 'Name none'}, or choose another --logdir."
            )
        seed = saved.training.seed
        if seed != config.training.seed:
            raise RunError(
                f"The run in {path} has seed {seed} and cannot continue with seed {config.training.seed}. Leave --seed "
                "out, or choose another --logdir."
            )

    def _has_checkpoint(self) -> bool:
        return Checkpoints(self.checkpoints).latest() is not None


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


def find_checkpoint(path: Path | str) -> Path:
    """Return the checkpoint that a path means.

    Args:
        path: a run folder (its newest checkpoint), a checkpoint folder in it (`RUN/checkpoints/best`, too), the
            folder of a saved agent, or a file in one of them.

    Raises:
        RunError: if there is nothing, or something else.
        CheckpointError: if the run has no checkpoint.
    """
    given, path = path, Path(os.path.abspath(path))
    if not path.exists():
        raise RunError(f"There is nothing at {given}. Give the folder of a run, of a checkpoint or of a saved agent.")
    if path.is_file():
        path = path.parent
    if is_checkpoint(path):
        return path
    run = RunPaths(path.parent if path.name == CHECKPOINTS else path)
    if newest := Checkpoints(run.checkpoints).latest():
        return newest
    if not run.config_path.is_file():
        raise RunError(f"{given} is not the folder of a run, of a checkpoint or of a saved agent: no {CONFIG} in it.")
    raise CheckpointError(
        f"The run {given} has no checkpoint yet: there is no {run.checkpoints / 'step-*'}. Let it train longer."
    )


def _has_content(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists() and path.stat().st_size > 0

"""The folder of a run: its lock, and the checks before a run is started or resumed in it."""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from filelock import BaseFileLock

from reverie.config import Config, diff, load_config, to_toml
from reverie.errors import CheckpointError, RunError
from reverie.replay import REPLAY, has_steps
from reverie.runs.atomic_io import atomic_write, make_dir, remove
from reverie.runs.checkpoints import MANIFEST, Checkpoints, is_checkpoint
from reverie.runs.layout import (
    CHECKPOINTS,
    CONFIG,
    CONTENT,
    METRICS,
    OLD_REPLAY,
    REPLAY_FILES,
    TENSORBOARD,
    VIDEOS,
    RunPaths,
)
from reverie.runs.locks import acquire_lock, is_locked, read_owner, write_owner

_FOLDERS = (TENSORBOARD, CHECKPOINTS, VIDEOS)
_RESULTS = (METRICS, CHECKPOINTS, REPLAY, VIDEOS)


class RunFolder(RunPaths):
    """Folder of a run. `RunFolder(path)` reads and needs no lock; `RunFolder.create` locks it for training.

    It is locked until `close`, the end of a `with` block, or the end of the process. Nothing else is changed in it
    before `begin`: a start that is refused leaves every file as it was.
    """

    def __init__(self, path: Path | str) -> None:
        """Read and write nothing yet."""
        super().__init__(path)
        self.resumed = False
        """True where there is a checkpoint to continue from."""
        self._lock: BaseFileLock | None = None
        self._begun = self._overwrite = False
        self._added: list[Path] = []  # What `create` and `begin` add, the folder itself last.

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
        for parent in (folder.path, *folder.path.parents):
            if parent.is_file():
                raise RunError(f"{parent} is a file and not a folder. Choose another --logdir.")
        try:
            names = (*(folder.path / name for name in CONTENT), folder.path)
            folder._added = [name for name in names if not name.exists()]
            folder._acquire()
            folder._overwrite = overwrite
            folder._check(config, resume)
        except BaseException as error:
            folder.discard()
            folder.close()
            if isinstance(error, OSError):
                raise RunError(
                    f"The run folder {folder.path} cannot be written ({error.strerror or error}). Check the disk and "
                    "its permissions, or choose another --logdir."
                ) from error
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
        try:
            folder._acquire()
        except OSError as error:
            raise RunError(f"The run folder {path} cannot be written ({error.strerror or error}).") from error
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
        try:
            if self._overwrite:
                self._added = [self.path / name for name in CONTENT]
                for path in self._added:
                    remove(path)
            elif not self.resumed:  # Left by a run that was killed before its first checkpoint.
                for name in (*REPLAY_FILES, CHECKPOINTS):
                    remove(self.path / name)
            for name in _FOLDERS:
                (self.path / name).mkdir(exist_ok=True)
            atomic_write(self.config_path, to_toml(config).encode())
        except OSError as error:
            raise RunError(f"{self.path} cannot be written ({error.strerror}). Check the disk.") from error

    def discard(self) -> None:
        """Remove what was added, unless there is a checkpoint by now; the folder is as unused as before."""
        if self._lock is None or self.resumed or self._has_checkpoint():
            return
        with suppress(OSError):
            self.owner_path.unlink(missing_ok=True)
            for path in self._added:
                if path == self.path:
                    path.rmdir()  # Fails if another process has put something there.
                else:
                    remove(path)

    def close(self) -> None:
        """Release the lock. Its file is removed, too, if nothing was begun and it did not exist before."""
        if self._lock is None:
            return
        with suppress(OSError):
            self.owner_path.unlink(missing_ok=True)
            if not self._begun and self.lock_path in self._added:
                self.lock_path.unlink(missing_ok=True)
        self._lock.release()
        self._lock = None

    def __enter__(self) -> "RunFolder":
        """Return the folder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        self.close()

    def _acquire(self) -> None:
        make_dir(self.path)
        if not self.lock_path.exists():
            self._added.insert(0, self.lock_path)
        self._lock = acquire_lock(self.lock_path)
        if self._lock is None:
            raise RunError(
                f"{self.path} is in use by {read_owner(self.owner_path)}. Stop that process first, or choose another "
                "--logdir."
            )
        write_owner(self.owner_path)

    def _check(self, config: Config, resume: bool) -> None:
        if (self.path / MANIFEST).exists():
            raise RunError(f"{self.path} holds a saved agent and not a run. Choose another --logdir.")
        if self._overwrite:
            return
        results = [name for name in _RESULTS if _has_content(self.path / name)]
        if not resume and (results or self.config_path.exists()):
            raise RunError(
                f"{self.path} already holds a run. Type --resume to continue it, --overwrite to replace it, or choose "
                "another --logdir."
            )
        if resume and (self.path / OLD_REPLAY).exists():
            raise RunError(
                f"{self.path} was written by an earlier version of reverie and cannot be resumed. Choose another "
                "--logdir, or type --overwrite to replace it."
            )
        self.resumed = self._has_checkpoint()
        saved = saved_settings(self.path) if resume else None
        if self.resumed and saved is not None:
            self._check_same_run(config, saved)
        elif results and not self._is_bare():
            raise RunError(
                f"{self.path} cannot be resumed: it has {' and '.join(results)} but no checkpoint. Type --overwrite "
                "to start from the beginning, or choose another --logdir."
            )

    def _check_same_run(self, config: Config, saved: Config) -> None:
        if (there := saved.env.name) != config.env.name:
            raise RunError(
                f"The run in {self.path} is of {there} and cannot continue with {config.env.name}. Name {there}, or "
                "choose another --logdir."
            )
        if (seed := saved.training.seed) != config.training.seed:
            raise RunError(
                f"The run in {self.path} has seed {seed} and cannot continue with seed {config.training.seed}. "
                "Leave --seed out, or choose another --logdir."
            )

    def _has_checkpoint(self) -> bool:
        return Checkpoints(self.checkpoints).latest() is not None

    def _is_bare(self) -> bool:
        """Return whether no step is stored, and nothing is measured or drawn: killed before its first checkpoint."""
        has_checkpoints = any(self.checkpoints.glob("[!.]*"))
        return not (
            has_checkpoints or has_steps(self.replay) or _has_content(self.metrics) or _has_content(self.videos)
        )


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
    """A checkpoint, and the configuration next to it."""

    config: Path | None
    """The `config.toml` of the run; None for a saved agent."""
    checkpoint: Path


def find_run(path: Path | str) -> Found:
    """Find the checkpoint that a path means, and its configuration.

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
    checkpoint = path if is_checkpoint(path) else None
    run = path.parent if checkpoint is not None else path
    if run.name == CHECKPOINTS:
        run = run.parent
    elif checkpoint is not None:
        return Found(None, checkpoint)
    folder = RunPaths(run)
    config = folder.config_path if folder.config_path.is_file() else None
    if checkpoint is None:
        checkpoint = Checkpoints(folder.checkpoints).latest()
    if checkpoint is not None:
        return Found(config, checkpoint)
    if config is None:
        raise RunError(f"{given} is not the folder of a run, of a checkpoint or of a saved agent: no {CONFIG} in it.")
    raise CheckpointError(
        f"The run {given} has no checkpoint yet: there is no {folder.checkpoints / 'step-*'}. Let it train longer."
    )


def config_changes(saved: Config, given: Config) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ: path, with its saved and its given value."""
    return {path: (old, new) for path, old, new in diff(given, saved)}


def _has_content(path: Path) -> bool:
    if path.is_dir():
        return any(path.iterdir())
    return path.exists() and path.stat().st_size > 0

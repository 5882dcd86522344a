"""Import of recorded episodes into a replay, and export of a replay's."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reverie.config import ReplayConfig
from reverie.data.episodes import Episode, Recording, read_spec, write_spec
from reverie.data.formats import choose_format
from reverie.errors import DataError
from reverie.replay import REPLAY, ReplayBuffer
from reverie.runs.atomic_io import atomic_path, remove
from reverie.runs.layout import CONFIG, LOCK
from reverie.runs.locks import acquire_lock
from reverie.specs import EnvSpec

_UNBOUNDED = ReplayConfig(capacity=1 << 40, fsync_interval=0.0)


@dataclass
class Transferred:
    """Result of an import or export."""

    num_episodes: int = 0
    num_steps: int = 0
    """Actions; the first row of an episode follows none."""
    num_led_to: int = 0
    """Episodes whose first row has an action or a reward that is not 0, as where a long episode was split."""
    notes: list[str] = field(default_factory=list)
    """Sentences about what was converted or is lost."""

    def count(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """Count episodes that pass."""
        for episode in episodes:
            self.num_episodes += 1
            self.num_steps += len(episode["action"]) - 1
            self.num_led_to += bool(episode["action"][0].any() or episode["reward"][0])
            yield episode


def import_episodes(source: Recording, data: Path) -> Transferred:
    """Store all episodes of a recording in a folder's replay, which is created or extended. All or none are stored.

    Raises:
        DataError: if an episode is not valid, or the folder holds a run or episodes of other spaces.
        ReplayError: if the disk is full.
    """
    done = Transferred()
    if (data / REPLAY).exists():
        _extend(source, data, done)
    else:
        with new_folder(data) as folder:
            with ReplayBuffer(folder / REPLAY, source.spec.step, _UNBOUNDED) as replay:
                _add(replay, done.count(source))
            write_spec(folder, source.spec)
            _require_some(source, done)
    done.notes += source.notes
    return done


def export_episodes(source: Recording, folder: Path, format: str) -> Transferred:
    """Write all episodes of a recording into a new folder in another format. All or none are written.

    Raises:
        DataError: if the format cannot hold them, or the folder exists.
    """
    chosen = choose_format(format)
    if chosen.write is None:
        raise DataError(f"The format {format} is only read. Nothing was written. Choose npz, minari, vd4rl or folder.")
    lost = chosen.losses(source.spec)
    done = Transferred()
    with new_folder(folder) as temporary:
        chosen.write(temporary, source.spec, done.count(source))
        _require_some(source, done)
    if done.num_led_to and not chosen.holds_first:
        lost += f" The format {format} does not hold the first action and reward of {done.num_led_to:,} split episodes."
    done.notes += [*source.notes, *([lost.strip()] if lost else [])]
    return done


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder under another name, which gets this one if the block ends without an error."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path} exists already. Nothing was written. Choose another folder, or remove it.")
    with atomic_path(path) as temporary:
        try:
            temporary.mkdir()
            yield temporary
        except BaseException:
            remove(temporary)
            raise


def _extend(source: Recording, data: Path, done: Transferred) -> None:
    if (data / CONFIG).exists():
        raise DataError(f"{data} holds a run. Nothing was stored. Choose a folder of its own for the data.")
    stored = read_spec(data)
    if stored is not None and stored != source.spec:
        raise DataError(
            f"{data} holds {_shown(stored)}, and {source.path} {_shown(source.spec)}. Nothing was stored. Choose "
            "another folder."
        )
    lock = acquire_lock(data / LOCK)
    if lock is None:
        raise DataError(f"{data} is in use by another process. Nothing was stored. Try again when it has finished.")
    try:
        with ReplayBuffer(data / REPLAY, source.spec.step, _UNBOUNDED) as replay:
            before = replay.commit()
            try:
                _add(replay, done.count(source))
                _require_some(source, done)
            except BaseException:
                replay.rewind(before)
                replay.commit()
                raise
    finally:
        lock.release()


def _add(replay: ReplayBuffer, episodes: Iterable[Episode]) -> None:
    for episode in episodes:
        for t in range(len(episode["action"])):
            replay.add({key: rows[t : t + 1] for key, rows in episode.items()}, envs=range(1))


def _require_some(source: Recording, done: Transferred) -> None:
    if not done.num_episodes:
        raise DataError(
            f"{source.path} has no finished episode. Nothing was done. Let the run continue, or name another."
        )


def _shown(spec: EnvSpec) -> str:
    observations = ", ".join(f"{key} {list(entry.shape)}" for key, entry in spec.observations.items())
    return f"{observations} and {spec.action.kind} actions {list(spec.action.sizes)}"

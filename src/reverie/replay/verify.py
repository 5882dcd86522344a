"""Compares a replay with its checksums, and removes what is damaged."""

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reverie.errors import ReplayError
from reverie.replay.database import Database, sqlite_errors
from reverie.replay.index import MAX_LENGTH, STEP_BITS, Commit
from reverie.specs import ArraySpec


@dataclass(frozen=True)
class ReplayHealth:
    """Result of `verify`."""

    num_steps: int = 0  # that are intact
    damage: list[str] = field(default_factory=list)  # ends of sentences that begin with the file
    is_repairable: bool = True  # Only steps and pages are damaged, and not what describes them.
    lost: dict[int, int] = field(default_factory=dict)  # length of each episode with a damaged step, by id


def verify(path: Path, steps: Mapping[str, ArraySpec], commits: Sequence[Any] = ()) -> ReplayHealth:
    """Check the pages of a replay and every step's checksum; nothing is changed.

    Args:
        path: the SQLite file.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        commits: of checkpoints, whose episodes must be there.
    """
    try:
        with closing(Database(path, steps, read_only=True)) as database:
            return _verify(database, [*database.commits(), *map(Commit.from_json, commits)])
    except ReplayError as error:
        return ReplayHealth(damage=[f"cannot be used: {error}"], is_repairable=False)


def repair(path: Path, steps: Mapping[str, ArraySpec], commits: Sequence[Any] = ()) -> int:
    """If `verify` finds damage, copy all episodes without a damaged step into a new file; return the steps left out.

    No other process may have the file open.

    Raises:
        ReplayError: if more than steps is damaged, or the disk is full.
    """
    health = verify(path, steps, commits)
    if not health.damage:
        return 0
    copy = path.with_name(f".{path.name}.repair")
    try:
        _delete(copy)
        with closing(Database(path, steps, read_only=True)) as old, closing(Database(copy, steps)) as new:
            for each in old.episodes().values():
                with new.transaction():
                    if each.id not in health.lost:
                        new.insert(enumerate(old.intact_steps(each.id, 0, MAX_LENGTH), each.id << STEP_BITS))
                        new.write_episodes([each])
                    elif each.finished is not None:  # Its number stays, so that none is missing.
                        new.write_episodes([replace(each, length=0)])
            with new.transaction(is_durable=True):
                new.write_commits(old.commits())
        with sqlite_errors(path):
            _delete(path)  # The log of the old file would be applied to the new one.
            copy.replace(path)
    finally:
        with suppress(ReplayError):
            _delete(copy)
    return sum(health.lost.values())


def _verify(database: Database, commits: Sequence[Commit]) -> ReplayHealth:
    try:
        pages = [line for (line,) in database.execute("PRAGMA integrity_check(20)") if line != "ok"]
    except ReplayError as error:
        pages = [str(error)]
    damage, num_steps, lost = [f"is damaged: SQLite reports {line}" for line in pages], 0, {}
    stored = database.episodes()
    for commit in commits:
        for each in (each for each in database.index(commit).envs if each):  # raises if the file lacks episodes
            stored[each[-1].id].length = max(stored[each[-1].id].length, each[-1].length)
    for number, episode in stored.items():
        num_intact = sum(1 for _ in database.intact_steps(number, 0, episode.length))
        num_steps += num_intact
        if num_intact < episode.length:
            lost[number] = episode.length
            what = f"step {num_intact} of episode {number} (environment {episode.env}) is not what was stored"
            damage.append(f"is damaged: {what}")
    return ReplayHealth(num_steps, damage, lost=lost)


def _delete(path: Path) -> None:
    with sqlite_errors(path):
        for end in ("-wal", "-shm", ""):
            path.with_name(path.name + end).unlink(missing_ok=True)

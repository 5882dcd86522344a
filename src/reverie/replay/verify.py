"""Compares a replay with its checksums, and removes what is damaged."""

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reverie.errors import ReplayError
from reverie.replay.database import Database, sqlite_errors
from reverie.replay.index import MAX_LENGTH, STEP_BITS, Commit
from reverie.specs import ArraySpec


@dataclass(frozen=True)
class ReplayHealth:
    """Result of `verify`."""

    damage: list[str]  # ends of sentences that begin with the file
    lost: dict[int, int]  # length of each episode with a damaged step, by id
    is_repairable: bool  # Only steps and pages are damaged, and not what describes them.


def verify(path: Path, steps: Mapping[str, ArraySpec], commits: Sequence[Any] = ()) -> ReplayHealth:
    """Check the pages of a replay and every step's checksum; nothing is changed.

    Args:
        path: the SQLite file.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        commits: of checkpoints, whose episodes must be there.
    """
    damage, lost = [], {}
    try:
        with closing(Database(path, steps, read_only=True)) as database:
            try:
                pages = [line for (line,) in database.execute("PRAGMA integrity_check(20)") if line != "ok"]
            except ReplayError as error:
                pages = [str(error)]
            damage += [f"is damaged: SQLite reports {line}" for line in pages]
            stored = database.episodes()
            for commit in [*database.commits(), *map(Commit.from_json, commits)]:
                for [*_, each] in filter(None, database.index(commit).envs):  # raises if the file lacks episodes
                    stored[each.id].length = max(stored[each.id].length, each.length)
            for each in stored.values():
                if what := database.damage(each):
                    lost[each.id] = each.length
                    damage.append(f"is damaged: {what}")
    except ReplayError as error:
        return ReplayHealth([f"cannot be used: {error}"], {}, is_repairable=False)
    return ReplayHealth(damage, lost, is_repairable=True)


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
            for _, each in sorted(old.episodes().items()):
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


def _delete(path: Path) -> None:
    with sqlite_errors(path):
        for end in ("-wal", "-shm", ""):
            path.with_name(path.name + end).unlink(missing_ok=True)

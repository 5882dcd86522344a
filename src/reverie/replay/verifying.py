"""Compares a replay with its checksums, and removes what is damaged."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reverie.errors import ReplayError
from reverie.replay.database import Database, checksum, damaged, delete_replay, sqlite_errors
from reverie.replay.index import MAX_LENGTH, STEP_BITS, Commit, Episode
from reverie.replay.recovery import read_index
from reverie.specs import ArraySpec

_AT_ONCE = 1024


@dataclass(frozen=True)
class ReplayHealth:
    """What was found in a replay."""

    num_steps: int = 0
    """Steps that were compared."""
    damage: list[str] = field(default_factory=list)
    """Ends of sentences that begin with the file."""
    is_repairable: bool = True
    """Whether only steps and pages are damaged, and not what describes them."""
    episodes: dict[int, int] = field(default_factory=dict)
    """The last damaged step of each damaged episode."""


def check_commit(database: Database, commit: Commit) -> None:
    """Compare every step that a commit holds with its checksum.

    Raises:
        ReplayError: for the first one that is damaged or missing.
    """
    index = read_index(database, commit)
    if missing := _missing(database, commit, index.num_steps):
        raise ReplayError(damaged(database.path, missing))
    for episodes in index.envs:
        for episode in episodes:
            first, stop = ((episode.id << STEP_BITS) + t for t in (episode.start, episode.length))
            while first < stop:
                found = database.read(first, stop, most=_AT_ONCE)
                if not found:
                    raise database.damaged_step(first)
                first += len(found)


def verify(path: Path, steps: Mapping[str, ArraySpec], commits: Sequence[Any] = ()) -> ReplayHealth:
    """Check the pages of a replay, and compare every step with its checksum. Nothing is changed.

    Args:
        path: the SQLite file.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        commits: of checkpoints, which must fit the steps.
    """
    try:
        database = Database(path, steps, read_only=True)
    except ReplayError as error:
        return ReplayHealth(damage=[f"cannot be used: {error}"], is_repairable=False)
    with closing(database):
        try:
            return _examine(database, [*database.commits, *map(Commit.from_json, commits)])
        except ReplayError as error:
            return ReplayHealth(damage=[f"cannot be used: {error}"], is_repairable=False)


def repair(path: Path, steps: Mapping[str, ArraySpec], commits: Sequence[Any] = ()) -> int:
    """Copy what is not damaged into a new file that takes the place of the old one. Nobody else may have it open.

    Finished episodes with a damaged step are left out, running ones begin after the last damaged step.

    Args:
        path: the SQLite file.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        commits: of checkpoints, which must fit the steps.

    Returns:
        Steps that were left out.

    Raises:
        ReplayError: if more than steps is damaged, or the disk is full.
    """
    health = verify(path, steps, commits)
    if not health.damage:
        return 0
    copy = path.with_name(f".{path.name}.repair")
    with sqlite_errors(path):
        delete_replay(copy)
    try:
        with closing(Database(path, steps, read_only=True)) as old, closing(Database(copy, steps)) as new:
            _copy(old, new, health.episodes, [*old.commits, *map(Commit.from_json, commits)])
            held = [(commit, read_index(new, commit).num_steps) for commit in old.commits]
            with new.transaction(is_durable=True):
                new.write_commits([replace(commit, num_steps=num_steps) for commit, num_steps in held])
        with sqlite_errors(path):
            delete_replay(path)  # The log of the old file would be applied to the new one.
            copy.replace(path)
    finally:
        with suppress(OSError):
            delete_replay(copy)
    return held[-1][0].num_steps - held[-1][1]


def _copy(old: Database, new: Database, last_damaged: Mapping[int, int], held: Sequence[Commit]) -> None:
    running = {each.id for commit in held for each in commit.open if each is not None}
    for episode in old.episodes():
        start = last_damaged.get(episode.id, -1) + 1
        if start and episode.id not in running:
            continue
        with new.transaction():
            new.write_episodes([replace(episode, start=min(max(start, episode.start), episode.length))])
            first, stop = ((episode.id << STEP_BITS) + t for t in (start, MAX_LENGTH))
            rows = old.execute("SELECT id, data FROM steps WHERE id >= ? AND id < ?", (first, stop))
            new.insert_steps(rows)
    with new.transaction(is_durable=True):
        new.write_commits(old.commits)


def _missing(database: Database, commit: Commit, num_steps: int) -> str:
    """Say how many steps are gone that one of the last two commits counted; empty if none."""
    counted = next((each.num_steps for each in database.commits if each == commit), 0)
    return f"{counted - num_steps:,} steps of a checkpoint are missing" if counted > num_steps else ""


def _examine(database: Database, commits: Sequence[Commit]) -> ReplayHealth:
    damage = [f"is damaged: SQLite reports {line}" for line in database.integrity()]
    needed: dict[int, tuple[int, int]] = {}
    for commit in commits:
        index = read_index(database, commit)
        if missing := _missing(database, commit, index.num_steps):
            damage.append(f"is damaged: {missing}")
        for episode in (each for env in index.envs for each in env if each.num_steps):
            start, stop = needed.get(episode.id, (episode.start, episode.length))
            needed[episode.id] = min(start, episode.start), max(stop, episode.length)
    num_steps = 0
    episodes: dict[int, int] = {}
    for episode in database.episodes():
        found, wrong, last = _compare(database, episode, *needed.get(episode.id, (0, 0)))
        num_steps += found
        if wrong:
            episodes[episode.id] = last
            steps = f"{wrong:,} steps" if wrong > 1 else f"step {last}"
            verb = "are" if wrong > 1 else "is"
            damage.append(
                f"is damaged: {steps} of episode {episode.id} (environment {episode.env}) {verb} not what was stored"
            )
    return ReplayHealth(num_steps, damage, episodes=episodes)


def _compare(database: Database, episode: Episode, start: int, stop: int) -> tuple[int, int, int]:
    """Compare the steps of an episode with their checksums.

    Args:
        database: the file.
        episode: as stored.
        start: the first step that a commit holds.
        stop: one past the last.

    Returns:
        Undamaged steps, damaged or missing ones, and the number of the last of those.
    """
    first = episode.id << STEP_BITS
    query = "SELECT id, data, crc FROM steps WHERE id >= ? AND id < ? ORDER BY id"
    found = wrong = 0
    last, expected = -1, None
    try:
        for step, data, crc in database.execute(query, (first, first + MAX_LENGTH)):
            t = step - first
            if expected is None:
                expected = min(t, start) if start < stop else t
            if gap := t - expected:
                wrong, last = wrong + gap, t - 1
            if type(data) is not bytes or len(data) != database.dtype.itemsize or checksum(step, data) != crc:
                wrong, last = wrong + 1, t
            else:
                found += 1
            expected = t + 1
    except sqlite3.Error:  # A page is damaged, and what comes after it cannot be found.
        stop = max(stop, (expected or start) + 1)
    expected = start if expected is None else expected
    if expected < stop:
        wrong, last = wrong + stop - expected, stop - 1
    return found, wrong, last

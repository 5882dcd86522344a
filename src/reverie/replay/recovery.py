"""What an SQLite file holds compared with a commit, and steps that were stored after it."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from reverie.errors import ReplayError
from reverie.replay.database import Database
from reverie.replay.index import MAX_LENGTH, STEP_BITS, Commit, Episode, EpisodeIndex

_AT_ONCE = 256


class Recovered(NamedTuple):
    """Steps that were stored after a commit and appended again."""

    steps: int
    """Agent steps; reset steps are not counted."""
    episodes: int
    """Ends of episodes among them."""


def read_index(
    database: Database, commit: Commit, num_envs: int = 0, capacity: int = 1 << 62, min_length: int = 1
) -> EpisodeIndex:
    """Return the episodes of a commit.

    Args:
        database: the file.
        commit: the commit.
        num_envs: environments now, if there are more than at the commit.
        capacity: see `EpisodeIndex`; nothing is evicted here.
        min_length: see `EpisodeIndex`.

    Raises:
        ReplayError: if the commit is newer than what the file holds, or an episode is damaged.
    """
    stored, known = list(database.episodes()), database.commits[-1]
    begun = max([known.episodes, *(episode.id + 1 for episode in stored)])
    finished = max([known.finished, *(each.finished + 1 for each in stored if each.finished is not None)])
    if commit.episodes > begun or commit.finished > finished:
        raise ReplayError(
            f"The checkpoint was written when {database.path} held more than it holds now. They do not belong "
            "together. Restore both from one copy."
        )
    running = [each.id for each in commit.open if each is not None]
    first = {number: step for number in running if (step := database.first_step(number)) is not None}
    return EpisodeIndex.at(commit, num_envs, capacity, min_length, stored, first)


def delete_uncommitted(database: Database, commit: Commit, kept: Iterable[Episode] = ()) -> None:
    """Delete what was stored after a commit, inside a transaction.

    Args:
        database: the file.
        commit: its running episodes are running again.
        kept: episodes of which more is kept.
    """
    lengths = {each.id: each.length for each in commit.open if each is not None}
    lengths |= {episode.id: episode.length for episode in kept}
    for found in list(database.episodes()):
        if found.id in lengths:
            database.delete_steps(found.id, lengths[found.id])
            database.write_episodes([Episode(found.id, found.env)])
        elif found.id >= commit.episodes or found.finished is None or found.finished >= commit.finished:
            database.delete_episode(found.id)


def delete_evicted(database: Database, index: EpisodeIndex, before: Commit, now: Commit) -> None:
    """Delete the steps that neither of two commits holds, inside a transaction.

    Args:
        database: the file.
        index: of the later commit.
        before: the earlier one.
        now: the later one.
    """
    running = {each.id: each.start for each in before.open if each is not None}
    gone = database.execute(
        "SELECT id FROM episodes WHERE finished < ? OR finished >= ? AND finished < ?",
        (before.oldest, before.finished, now.oldest),
    )
    for (number,) in gone.fetchall():
        if number not in running:
            database.delete_episode(number)
    oldest = list(index.finished)[:1]
    for episode in [*oldest, *(episode for env in index.envs for episode in list(env)[-1:])]:
        held = before.start if episode.finished == before.oldest else 0
        start = min(episode.start, running.get(episode.id, held if episode.id < before.episodes else MAX_LENGTH))
        if start:
            database.delete_steps(episode.id, 0, start)
            if episode.finished is not None:
                database.write_episodes([replace(episode, start=start)])


def recover(database: Database, index: EpisodeIndex, envs: Collection[int] | None) -> tuple[Recovered, list[Episode]]:
    """Append steps that were stored after a commit to the index of that commit.

    Args:
        database: the file.
        index: of the commit.
        envs: numbers of the environments; None for all of them.

    Returns:
        How much there was, and the episodes that have changed.
    """
    running = {each.id: each for env in range(len(index.envs)) if (each := index.running(env)) is not None}
    later = [
        each
        for each in database.episodes()
        if (each.id in running or each.id >= index.num_begun) and each.env < len(index.envs)
    ]
    steps = ends = 0
    changed: list[Episode] = []
    ended: set[int] = set()  # Environments of which no more can be appended.
    for found in sorted(later, key=lambda each: (each.finished is None, each.finished or 0, each.id)):
        if found.env in ended or not (envs is None or found.env in envs):
            continue
        episode = running.get(found.id)
        count, is_last = _stored_after(database, found.id, episode.length if episode else 0)
        if episode is None and count:
            episode = Episode(found.id, found.env)
            index.put(episode)
            steps -= 1
        if episode is not None:
            index.extend(episode, count)
            steps, ends = steps + count, ends + is_last
            changed.append(episode)
        if episode is not None and found.finished is not None and episode.length == found.length:
            index.finish(found.env)
        else:
            ended.add(found.env)
    return Recovered(steps, ends), changed


def _stored_after(database: Database, episode: int, length: int) -> tuple[int, bool]:
    """Count the undamaged steps of an episode from number `length` on, and say whether the last one ends it."""
    first = (episode << STEP_BITS) + length
    count, last = 0, b""
    while found := database.read(first + count, (episode + 1) << STEP_BITS, most=_AT_ONCE, is_lenient=True):
        count, last = count + len(found), found[-1]
    return count, bool(last) and bool(np.frombuffer(last, database.dtype)["is_last"][0])

"""Rows that were stored after a commit: those that follow it without a gap can be counted again."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from reverie.config import ReplayConfig
from reverie.replay import Replay
from tests.helpers.numbered_rows import EPISODE, SPECS, row

CONFIG = ReplayConfig(capacity=2000, batch_size=2, batch_length=4)


def killed(folder: Path, committed: int, stored: int, streams: int = 1, length: int = EPISODE) -> object:
    """A replay of a process that died: its last commit, and what came after."""
    replay = Replay(folder, SPECS, CONFIG, streams)
    position: object = None
    for number in range(stored):
        replay.add(row(number, streams, length))
        if number + 1 == committed:
            position = replay.commit()
    replay._segments.close()
    return position


def reopen(folder: Path, position: object, streams: int = 1) -> Replay:
    replay = Replay(folder, SPECS, CONFIG, streams)
    replay.rewind(position)
    return replay


def held(replay: Replay, stream: int = 0) -> list[int]:
    """Numbers of the rows of a stream."""
    steps = replay._index.streams[stream].steps
    return [int(value) for part in replay.latest_episode(stream, steps) for value in part["vector"][:, 0]]


@pytest.mark.parametrize("committed", [5, 6, 7, 8, 14])
@pytest.mark.parametrize("stored", [14, 19, 21, 300])
def test_all_of_them(tmp_path: Path, committed: int, stored: int) -> None:
    """Wherever in an episode the commit was, and wherever the process died; across segments, too."""
    replay = reopen(tmp_path, killed(tmp_path, committed, stored))
    assert replay.num_steps == committed
    found = replay.take_back()
    later = range(committed, stored)
    assert found.steps == sum(number % EPISODE != 0 for number in later)
    assert found.episodes == sum(number % EPISODE == EPISODE - 1 for number in later)
    assert held(replay) == list(range(stored))
    assert replay.num_episodes == stored // EPISODE
    # It is a replay like any other from here on.
    replay.end_streams()
    replay.add(row(0))
    again = replay.commit()
    replay.check(again)
    replay.sample(np.random.default_rng(0))
    replay.close()
    assert held(reopen(tmp_path, again)) == [*range(stored), 0]


def test_an_episode_that_was_ended_by_the_next_reset(tmp_path: Path) -> None:
    """Its last step was marked after the commit, which going back undoes, and counting it again does again."""
    replay = Replay(tmp_path, SPECS, CONFIG, 1)
    for number in range(5):
        replay.add(row(number, length=1000))
    position = replay.commit()
    for _ in range(2):
        replay.add(row(0, length=1000))  # An environment made anew, twice.
        for number in range(1, 5):
            replay.add(row(number, length=1000))
    replay._segments.close()
    replay = reopen(tmp_path, position)
    assert replay.take_back() == (8, 1)  # The episode between was closed when the last began.
    assert held(replay) == [0, 1, 2, 3, 4] * 3
    replay.end_streams()
    assert [episode[2] for episode in replay._index.all_episodes().tolist()] == [5, 5, 5]
    steps = next(iter(replay.latest_episode(0, 15))), *list(replay.latest_episode(0, 15))[1:]
    lasts = np.concatenate([part["is_last"] for part in steps])
    assert np.flatnonzero(lasts).tolist() == [4, 9, 14]
    replay.check(replay.commit())


def test_rows_of_another_past_are_left_alone(tmp_path: Path) -> None:
    """A run went on from the commit, and was killed; went on otherwise, and was killed sooner."""
    position = killed(tmp_path, 10, 60)
    replay = reopen(tmp_path, position)
    for number in range(10, 25):
        step = row(number)
        step["vector"] += 0.5
        replay.add(step)
    replay._segments.close()
    replay = reopen(tmp_path, position)
    replay.take_back()
    assert held(replay) == list(range(25))  # (as integers)
    assert replay.num_steps == 25


@pytest.mark.parametrize("bad", [10, 11, 30, 255, 256])
def test_up_to_a_row_that_is_damaged(tmp_path: Path, bad: int) -> None:
    position = killed(tmp_path, 10, 300)
    replay = reopen(tmp_path, position)
    path = replay._segments.path(0, bad // 256)
    offset = replay._segments.layout.offsets["vector"] + 4 * (bad % 256)
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    replay.take_back()
    assert held(replay) == list(range(bad))


def test_up_to_a_segment_that_is_missing(tmp_path: Path) -> None:
    position = killed(tmp_path, 10, 300)
    replay = reopen(tmp_path, position)
    replay._segments.path(0, 1).unlink()
    replay.take_back()
    assert replay.num_steps == 256


def test_of_some_environments(tmp_path: Path) -> None:
    position = killed(tmp_path, 10, 40, streams=3)
    shutil.copytree(tmp_path, tmp_path / "copy")
    replay = reopen(tmp_path, position, 3)
    assert replay.take_back([0, 2]).steps == 2 * sum(number % EPISODE != 0 for number in range(10, 40))
    assert [len(held(replay, stream)) for stream in range(3)] == [40, 10, 40]
    replay = reopen(tmp_path / "copy", position, 3)
    replay.take_back()
    assert [held(replay, stream)[-1] for stream in range(3)] == [39, 1039, 2039]
    log = replay._index.all_episodes()
    assert sorted(log[:, 1].tolist()) == log[:, 1].tolist()  # About in the order in which they ended.


def test_not_after_going_further_back(tmp_path: Path) -> None:
    """Who deletes checkpoints to do without the last hours does not get them back."""
    replay = Replay(tmp_path, SPECS, CONFIG, 1)
    positions = []
    for number in range(60):
        replay.add(row(number))
        if number % 20 == 9:
            positions.append(replay.commit())
    replay._segments.close()
    for position, expected in zip(positions, [10, 60, 60], strict=True):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
        replay = reopen(tmp_path / "copy", position)
        replay.take_back()
        assert replay.num_steps == expected


def test_no_more_than_the_capacity(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPECS, ReplayConfig(capacity=100, batch_size=2, batch_length=4), 1)
    for number in range(400):
        replay.add(row(number))
        if number == 90:
            position = replay.commit()
    replay._segments.close()
    replay = Replay(tmp_path, SPECS, ReplayConfig(capacity=100, batch_size=2, batch_length=4), 1)
    replay.rewind(position)
    replay.take_back()
    assert replay.num_steps <= 100 and held(replay)[-1] == 399


def test_none_where_there_are_no_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    position = killed(tmp_path, 10, 40)
    replay = reopen(tmp_path, position)
    replay._segments.identity = None
    assert replay.take_back() == (0, 0)

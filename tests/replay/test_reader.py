"""A reader of a replay that another program writes: what is read, and that nothing is changed."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import ReplayBuffer, ReplayReader
from reverie.specs import STEP_KEYS, ArraySpec, Step

SPECS = {"vector": ArraySpec((2,), "float32"), "action": ArraySpec((3,), "float32"), **STEP_KEYS}


def make_step(number: float, **flags: bool) -> Step:
    step = {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
    step["reward"][:] = number
    for key, value in flags.items():
        step[key][:] = value
    return step


def fill(folder: Path, episodes: int, length: int = 10, capacity: int = 10_000) -> ReplayBuffer:
    """Episodes whose rewards count on, and one unfinished step."""
    config = ReplayConfig(capacity=capacity, batch_length=4, fsync_interval=0)
    replay = ReplayBuffer(folder / "replay.db", SPECS, config, 1)
    for i in range(episodes * length):
        last = i % length == length - 1
        replay.add(make_step(i, is_first=i % length == 0, is_last=last, is_terminal=last))
    replay.add(make_step(episodes * length, is_first=True))
    replay.commit()
    return replay


def open_reader(folder: Path) -> ReplayReader:
    return ReplayReader(folder / "replay.db", SPECS)


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in folder.iterdir()
    }


def test_windows_of_a_reader_are_consecutive_and_uniform(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with open_reader(tmp_path) as reader:
        assert reader.num_steps == 31
        windows = reader.windows(np.random.default_rng(0), 6, 2000)
    assert windows["vector"].shape == (6, 2000, 2) and windows["vector"].dtype == np.float32
    assert (np.diff(windows["reward"], axis=0) == 1).all()
    starts = np.bincount(windows["reward"][0].astype(int), minlength=26)
    assert len(starts) == 26 and starts.min() > 40 and starts.max() < 120  # 77 on average
    assert windows["is_first"][0].all()
    assert (windows["is_first"][1:] == (windows["reward"][1:] % 10 == 0)).all()


def test_endings_end_with_an_episode(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    with open_reader(tmp_path) as reader:
        endings = reader.endings(np.random.default_rng(0), 15, 10)
        assert endings is not None
        # The first episode has no 15 steps before its end.
        assert sorted(endings["reward"][-1].tolist()) == [19, 29, 39, 49]
        assert endings["is_terminal"][-1].all() and endings["is_first"][0].all()
        assert reader.endings(np.random.default_rng(0), 100, 10) is None
        some = reader.endings(np.random.default_rng(0), 15, 2)
        assert some is not None and some["reward"].shape == (15, 2)


def test_reader_of_a_written_replay_changes_nothing(tmp_path: Path) -> None:
    replay = fill(tmp_path, 3)
    before = fingerprint(tmp_path)
    with open_reader(tmp_path) as reader:
        replay.add(make_step(31))  # not committed, so not seen
        windows = reader.windows(np.random.default_rng(0), 6, 500)
        reader.endings(np.random.default_rng(0), 6, 5)
    assert windows["reward"].max() == 30
    after = fingerprint(tmp_path)
    assert after["replay.db"] == before["replay.db"] and after["replay.db-wal"] == before["replay.db-wal"]
    replay.close()
    with open_reader(tmp_path) as reader:
        assert reader.num_steps == 32


def test_forgotten_steps_are_not_read(tmp_path: Path) -> None:
    fill(tmp_path, 10, capacity=35).close()
    with open_reader(tmp_path) as reader:
        assert reader.num_steps == 31
        windows = reader.windows(np.random.default_rng(0), 5, 500)
        endings = reader.endings(np.random.default_rng(0), 5, 50)
    assert windows["reward"].min() == 70
    assert endings is not None and sorted(endings["reward"][-1].tolist()) == [79, 89, 99]


@pytest.mark.parametrize("shared", [0, 1, 255, 256, 257, 600])
def test_what_two_replays_begin_with_is_left_out(tmp_path: Path, shared: int) -> None:
    """Two environments: one begins alike in both replays, the other one at once differs."""
    for name, offset in (("own", 0), ("other", 5000)):
        replay = ReplayBuffer(tmp_path / name / "replay.db", SPECS, ReplayConfig(capacity=10_000, batch_length=4), 2)
        for i in range(600):
            rewards = np.array([i + (offset if i >= shared else 0), 2000 + i + offset])
            last = i % 10 == 9
            step = make_step(0, is_first=i % 10 == 0, is_last=last, is_terminal=last)
            replay.add(
                {**{key: value.repeat(2, 0) for key, value in step.items()}, "reward": rewards.astype(np.float32)}
            )
        replay.commit()
    with open_reader(tmp_path / "own") as own, open_reader(tmp_path / "other") as other:
        assert other.leave_out_shared(own) == shared
        assert (other.num_steps, other.longest, own.num_steps) == (1200 - shared, 600, 1200)
        windows = other.windows(np.random.default_rng(0), 4, 500)["reward"]
        assert windows.min() >= 5000 + shared and (shared == 600 or windows.min() < 5600)
        endings = other.endings(np.random.default_rng(0), 4, 200)
        assert endings is not None and endings["reward"].min() >= 5000 + shared


def test_what_the_other_replay_has_forgotten_cannot_be_compared(tmp_path: Path) -> None:
    fill(tmp_path / "own", 40, capacity=100)
    fill(tmp_path / "other", 50, capacity=10_000)
    with open_reader(tmp_path / "own") as own, open_reader(tmp_path / "other") as other:
        assert other.leave_out_shared(own) == 401  # all that the one holds or may have held
        assert other.windows(np.random.default_rng(0), 4, 100)["reward"].min() >= 401


def test_reader_without_a_fitting_replay_raises(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="There is no replay"):
        open_reader(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    fill(tmp_path, 1)
    with open_reader(tmp_path) as reader, pytest.raises(ReplayError, match="11 steps in a row"):
        reader.windows(np.random.default_rng(0), 12, 1)
    with pytest.raises(ReplayError, match="another environment"):
        ReplayReader(tmp_path / "replay.db", {**SPECS, "vector": ArraySpec((3,), "float32")})


def test_reader_of_a_finished_run_in_a_read_only_folder_leaves_no_file(tmp_path: Path) -> None:
    fill(tmp_path, 2).close()
    before = fingerprint(tmp_path)
    with open_reader(tmp_path) as reader:
        assert reader.digest()
    assert fingerprint(tmp_path) == before


def test_reader_keeps_its_view_while_a_commit_evicts(tmp_path: Path) -> None:
    replay = fill(tmp_path, 10, capacity=101)
    with open_reader(tmp_path) as reader:
        digest = reader.digest()
        for i in range(300):
            replay.add(make_step(i, is_first=i % 10 == 0, is_last=i % 10 == 9))
            if i % 50 == 49:
                replay.commit()
        assert reader.digest() == digest and reader.num_steps == 101
    with open_reader(tmp_path) as reader:
        assert reader.digest() != digest
    replay.close()


def test_digest_of_equal_replays_is_equal_however_they_were_stored(tmp_path: Path) -> None:
    digests = []
    for name, size in (("a", 1), ("b", 7), ("c", 1000)):
        replay = ReplayBuffer(tmp_path / name / "replay.db", SPECS, ReplayConfig(capacity=100, batch_length=4), 1)
        replay.transaction_steps = size
        for i in range(250):
            replay.add(make_step(i + (name == "c" and i == 249), is_first=i % 10 == 0, is_last=i % 10 == 9))
            if name == "b" and i % 40 == 0:
                replay.commit()
        replay.close()
        with open_reader(tmp_path / name) as reader:
            digests.append(reader.digest())
    assert digests[0] == digests[1] != digests[2]


def test_episodes_of_a_reader_hold_their_steps(tmp_path: Path) -> None:
    fill(tmp_path, 3).close()
    with open_reader(tmp_path) as reader:
        episodes = reader.episodes()
        assert [(each.env, each.length, each.finished) for each in episodes] == [
            (0, 10, 0),
            (0, 10, 1),
            (0, 10, 2),
            (0, 1, None),
        ]
        [steps] = reader.steps(episodes[1])
    assert steps["reward"].tolist() == list(range(10, 20)) and steps["is_last"].tolist() == [False] * 9 + [True]


def test_replay_is_read_with_sqlite_and_numpy_alone(tmp_path: Path) -> None:
    fill(tmp_path, 3).close()
    with closing(sqlite3.connect(tmp_path / "replay.db")) as database:
        [(steps,)] = database.execute("SELECT value FROM meta WHERE key = 'steps'")
        dtype = np.dtype([(key, dtype, tuple(shape)) for key, dtype, shape in json.loads(steps)])
        rows = database.execute("SELECT data FROM steps WHERE id >> 24 = 2 ORDER BY id").fetchall()
        lengths = database.execute("SELECT length FROM episodes WHERE finished IS NOT NULL").fetchall()
    assert np.concatenate([np.frombuffer(data, dtype) for (data,) in rows])["reward"].tolist() == list(range(20, 30))
    assert lengths == [(10,)] * 3

"""Looking at a replay that another program writes: what is read, and that nothing is changed."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import Replay, ReplayReader
from reverie.specs import STEP_KEYS, ArraySpec, Step

SPECS = {"vector": ArraySpec((2,), "float32"), "action": ArraySpec((3,), "float32"), **STEP_KEYS}


def make_step(number: float, **flags: bool) -> Step:
    step = {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
    step["reward"][:] = number
    for key, value in flags.items():
        step[key][:] = value
    return step


def fill(folder: Path, episodes: int, length: int = 10, capacity: int = 10_000) -> Replay:
    """Episodes whose rewards count on, and one unfinished step."""
    replay = Replay(folder, SPECS, ReplayConfig(capacity=capacity, batch_length=4), 1)
    for i in range(episodes * length):
        last = i % length == length - 1
        replay.add(make_step(i, is_first=i % length == 0, is_last=last, is_terminal=last))
    replay.add(make_step(episodes * length, is_first=True))
    replay.commit()
    return replay


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in folder.iterdir()
    }


def test_windows_are_consecutive_and_uniform(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with ReplayReader(tmp_path, SPECS) as reader:
        assert (reader.num_steps, reader.num_episodes) == (31, 3)
        windows = reader.windows(np.random.default_rng(0), 6, 2000)
    assert windows["vector"].shape == (6, 2000, 2) and windows["vector"].dtype == np.float32
    assert (np.diff(windows["reward"], axis=0) == 1).all()
    starts = np.bincount(windows["reward"][0].astype(int), minlength=26)
    assert len(starts) == 26 and starts.min() > 40 and starts.max() < 120  # 77 on average
    assert windows["is_first"][0].all()
    assert (windows["is_first"][1:] == (windows["reward"][1:] % 10 == 0)).all()


def test_endings_end_with_an_episode(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    with ReplayReader(tmp_path, SPECS) as reader:
        endings = reader.endings(np.random.default_rng(0), 15, 10)
        assert endings is not None
        # The first episode has no 15 steps before its end.
        assert sorted(endings["reward"][-1].tolist()) == [19, 29, 39, 49]
        assert endings["is_terminal"][-1].all() and endings["is_first"][0].all()
        assert reader.endings(np.random.default_rng(0), 100, 10) is None
        some = reader.endings(np.random.default_rng(0), 15, 2)
        assert some is not None and some["reward"].shape == (15, 2)


def test_nothing_changes_and_the_writer_goes_on(tmp_path: Path) -> None:
    replay = fill(tmp_path, 3)
    before = fingerprint(tmp_path)
    with ReplayReader(tmp_path, SPECS) as reader:
        replay.add(make_step(31))  # not committed, so not seen
        after_write = fingerprint(tmp_path)
        windows = reader.windows(np.random.default_rng(0), 6, 500)
        reader.endings(np.random.default_rng(0), 6, 5)
    assert windows["reward"].max() == 30
    assert fingerprint(tmp_path) == after_write and before["index.json"] == after_write["index.json"]
    replay.close()
    with ReplayReader(tmp_path, SPECS) as reader:
        assert reader.num_steps == 32


def test_forgotten_steps_are_not_read(tmp_path: Path) -> None:
    fill(tmp_path, 10, capacity=35).close()
    with ReplayReader(tmp_path, SPECS) as reader:
        assert (reader.num_steps, reader.num_episodes) == (31, 3)
        windows = reader.windows(np.random.default_rng(0), 5, 500)
        endings = reader.endings(np.random.default_rng(0), 5, 50)
    assert windows["reward"].min() == 70
    assert endings is not None and sorted(endings["reward"][-1].tolist()) == [79, 89, 99]


@pytest.mark.parametrize("shared", [0, 1, 255, 256, 257, 600])
def test_what_two_replays_begin_with_is_left_out(tmp_path: Path, shared: int) -> None:
    """Two streams: one begins alike in both replays, the other one at once differs."""
    for name, offset in (("own", 0), ("other", 5000)):
        replay = Replay(tmp_path / name, SPECS, ReplayConfig(capacity=10_000, batch_length=4), 2)
        for i in range(600):
            rewards = np.array([i + (offset if i >= shared else 0), 2000 + i + offset])
            last = i % 10 == 9
            step = make_step(0, is_first=i % 10 == 0, is_last=last, is_terminal=last)
            replay.add(
                {**{key: value.repeat(2, 0) for key, value in step.items()}, "reward": rewards.astype(np.float32)}
            )
        replay.commit()
    with ReplayReader(tmp_path / "own", SPECS) as own, ReplayReader(tmp_path / "other", SPECS) as other:
        assert other.leave_out_shared(own) == shared
        assert (other.num_steps, other.longest, own.num_steps) == (1200 - shared, 600, 1200)
        windows = other.windows(np.random.default_rng(0), 4, 500)["reward"]
        assert windows.min() >= 5000 + shared and (shared == 600 or windows.min() < 5600)
        endings = other.endings(np.random.default_rng(0), 4, 200)
        assert endings is not None and endings["reward"].min() >= 5000 + shared


def test_what_the_other_replay_has_forgotten_cannot_be_compared(tmp_path: Path) -> None:
    fill(tmp_path / "own", 40, capacity=100)
    fill(tmp_path / "other", 50, capacity=10_000)
    with ReplayReader(tmp_path / "own", SPECS) as own, ReplayReader(tmp_path / "other", SPECS) as other:
        assert other.leave_out_shared(own) == 401  # all that the one holds or may have held
        assert other.windows(np.random.default_rng(0), 4, 100)["reward"].min() >= 401


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="There is no replay"):
        ReplayReader(tmp_path / "nowhere", SPECS)
    assert not (tmp_path / "nowhere").exists()
    fill(tmp_path, 1)
    with ReplayReader(tmp_path, SPECS) as reader, pytest.raises(ReplayError, match="11 steps in a row"):
        reader.windows(np.random.default_rng(0), 12, 1)
    with pytest.raises(ReplayError, match="another environment"):
        ReplayReader(tmp_path, {**SPECS, "vector": ArraySpec((3,), "float32")})

"""Public behavior of the replay: validation, bounds, errors, and the disk."""

import json
import resource
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from scipy import stats

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import ReplayBuffer, has_steps, verify
from reverie.specs import STEP_KEYS, ArraySpec, Step

SPECS = {"vector": ArraySpec((2,), "float32"), "action": ArraySpec((3,), "float32"), **STEP_KEYS}


def make_step(number: int = 0, envs: int = 1, **flags: bool) -> Step:
    """A step whose reward is its number, the same in every environment."""
    step = {key: np.zeros((envs, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
    step["reward"][:] = number
    for key, value in flags.items():
        step[key][:] = value
    return step


def add_episode(replay: ReplayBuffer, total: int, begin: int = 0) -> None:
    for i in range(total):
        replay.add(make_step(begin + i, is_first=i == 0, is_last=i == total - 1))


def open_replay(directory: Path, envs: int = 1, **settings: Any) -> ReplayBuffer:
    return ReplayBuffer(
        directory / "replay.db",
        SPECS,
        ReplayConfig(**{"fsync_interval": 0, "batch_size": 4, "batch_length": 5, **settings}),
        envs,
    )


def test_a_batch_is_time_major_and_begins_with_is_first(tmp_path: Path) -> None:
    replay = open_replay(tmp_path)
    add_episode(replay, 20)
    batch = replay.sample(np.random.default_rng(0))
    for key, spec in SPECS.items():
        assert batch[key].shape == (5, 4, *spec.shape) and batch[key].dtype == spec.dtype
    assert batch["is_first"][0].all() and not batch["is_first"][1:].any()
    assert (np.diff(batch["reward"], axis=0) == 1).all()


def test_the_same_generator_gives_the_same_batch_also_in_given_arrays(tmp_path: Path) -> None:
    replay = open_replay(tmp_path)
    for i in range(10):
        add_episode(replay, 15, 100 * i)
    one = replay.sample(np.random.default_rng(3))
    out = {key: np.ones_like(array) for key, array in one.items()}
    two = replay.sample(np.random.default_rng(3), out)
    assert two is out
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])
    assert (replay.sample(np.random.default_rng(4))["reward"] != one["reward"]).any()


def test_episodes_are_drawn_uniformly_and_only_long_ones(tmp_path: Path) -> None:
    """SPEC 45, 46: an episode of batch_length steps, its reset step included, is too short."""
    replay = open_replay(tmp_path, batch_size=3000)
    for i, total in enumerate((5, 6, 40, 3, 11)):
        add_episode(replay, total, 100 * i)
    assert replay.num_steps == 65 and replay.num_episodes == 3
    episodes = replay.sample(np.random.default_rng(0))["reward"][0].astype(int) // 100
    observed = np.bincount(episodes, minlength=5)
    assert observed[[0, 3]].sum() == 0
    assert stats.chisquare(observed[[1, 2, 4]]).pvalue > 1e-6


def test_steps_are_drawn_across_borders_and_from_open_episodes(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, sampling="steps", batch_size=200)
    add_episode(replay, 4)
    replay.add(make_step(4, is_first=True))
    replay.add(make_step(5))
    assert replay.num_episodes == 0
    batch = replay.sample(np.random.default_rng(0))
    assert set(batch["reward"][0]) == {0, 1}
    for b in range(200):
        expected = batch["reward"][:, b] == 4
        expected[0] = True
        np.testing.assert_array_equal(batch["is_first"][:, b], expected)


def test_an_open_episode_is_truncated_by_a_reset(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, sampling="steps", batch_size=1, batch_length=6)
    add_episode(replay, 3)
    replay.add(make_step(3, is_first=True))
    replay.add(make_step(4))
    replay.add(make_step(5, is_first=True))
    batch = replay.sample(np.random.default_rng(0))
    assert batch["is_last"][:, 0].tolist() == [False, False, True, False, True, False]
    assert not batch["is_terminal"].any()
    replay.truncate_episodes()
    assert replay.sample(np.random.default_rng(0))["is_last"][-1, 0]
    with pytest.raises(ReplayError, match="is_first is not set"):
        replay.add(make_step(6))


def test_rewinding_opens_a_truncated_episode_again(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, sampling="steps", batch_size=1)
    for i in range(5):
        replay.add(make_step(i, is_first=i == 0))
    commit = replay.commit()
    replay.truncate_episodes()
    replay.close()
    replay = open_replay(tmp_path, sampling="steps", batch_size=1)
    assert replay.sample(np.random.default_rng(0))["is_last"][-1, 0]
    replay.rewind(json.loads(json.dumps(commit)))
    assert not replay.sample(np.random.default_rng(0))["is_last"].any()
    replay.add(make_step(5))
    assert replay.num_steps == 6


def test_capacity_drops_whole_episodes_oldest_first(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, envs=2, capacity=50)
    for i in range(100):
        lasts = np.array([i % 10 == 9, i % 15 == 14])
        step = make_step(i, 2)
        step["is_first"], step["is_last"] = np.array([i % 10 == 0, i % 15 == 0]), lasts
        replay.add(step)
        assert replay.num_steps <= 50
    rewards = replay.sample(np.random.default_rng(0))["reward"]
    assert rewards.min() >= 65
    # Finished, in order: …, [70, 80) of environment 0, [60, 75), [80, 90), [75, 90), [90, 100); [90, 100) is open in 1.
    assert replay.num_steps == 10 + 15 + 10 + 10


def test_disk_holds_the_last_two_commits_and_no_more(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, capacity=50)
    for i in range(40):
        for k in range(3):
            add_episode(replay, 10, 1000 * i + 100 * k)
        replay.commit()
        with closing(sqlite3.connect(replay.path)) as database:
            [(count,)] = database.execute("SELECT count(*) FROM steps")
        assert count <= 50 + 30  # those of the commit before, and what was added since


@pytest.mark.parametrize("envs", [1, 3])
def test_endless_episodes_are_split_where_they_fill_the_capacity(tmp_path: Path, envs: int) -> None:
    replay = open_replay(tmp_path, envs, sampling="steps", capacity=300, batch_size=300)
    for i in range(1500):
        replay.add(make_step(i, envs, is_first=i == 0))
        assert replay.num_steps <= 2 * 300 and replay.open_steps(0) == i + 1
        assert replay.num_steps >= min(envs * (i + 1), 300)
    batch = replay.sample(np.random.default_rng(0))
    assert (np.diff(batch["reward"], axis=0) == 1).all()
    assert not (batch["is_first"][1:] ^ batch["is_last"][:-1]).any()  # No state is carried over the end of a part.
    commit = replay.commit()
    assert replay.rewind(commit) and replay.open_steps(0) == 1500
    replay.add(make_step(1500, envs))
    replay.close()
    assert not verify(replay.path, SPECS).damage


def test_the_only_episode_that_can_be_sampled_stays_until_twice_the_capacity(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, capacity=20)
    add_episode(replay, 18)
    for i in range(5):
        add_episode(replay, 4, 100 * i)  # too short to be sampled
        assert replay.num_episodes == 1 and replay.num_steps == 18 + 4 * (i + 1)
    add_episode(replay, 5)
    assert replay.num_episodes == 0 and replay.num_steps <= 20
    with pytest.raises(ReplayError, match="too long for all of the"):
        replay.check_sampleable()


def test_the_episode_before_goes_when_another_one_can_be_sampled(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, capacity=20)
    add_episode(replay, 18)
    for i in range(18):
        replay.add(make_step(100 + i, is_first=i == 0, is_last=i == 17))
        assert replay.num_episodes == 1 and set(replay.sample(np.random.default_rng(0))["reward"][0] < 100) == {i < 17}
    assert replay.num_steps == 18


def test_an_episode_longer_than_the_ids_allow_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.replay.index.MAX_LENGTH", 30)
    replay = open_replay(tmp_path)
    for i in range(70):
        replay.add(make_step(i, is_first=i == 0))
    assert replay.num_episodes == 2 and replay.num_steps == replay.open_steps(0) == 70


def test_rows_select_envs(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, envs=3)
    replay.add(make_step(0, 3, is_first=True), np.array([True, False, True]))
    replay.add(make_step(1, 3, is_first=True), np.array([False, True, False]))
    assert replay.num_steps == 3
    with pytest.raises(ReplayError, match="mask has shape"):
        replay.add(make_step(2, 3), np.array([True]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vector": None}, r"stores .*'vector'.*given \{\}"),
        ({"bonus": np.zeros(1)}, r"stores \{\}, but was given .*'bonus'"),
        ({"vector": np.zeros((1, 3), np.float32)}, r"'vector': .*float32.*\(1, 2\).*given .*float32.*\(1, 3\)"),
        ({"vector": np.zeros((1, 2))}, r"'vector': .*float32.*\(1, 2\).*given .*float64"),
        ({"action": np.zeros((2, 3), np.float32)}, r"'action': .*given .*float32.*\(2, 3\)"),
        ({"is_first": np.array([False])}, "is_first is not set. Reset the environment"),
    ],
)
def test_steps_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    replay = open_replay(tmp_path)
    step = {**make_step(is_first=True), **change}
    with pytest.raises(ReplayError, match=message):
        replay.add({key: array for key, array in step.items() if array is not None})
    assert replay.num_steps == 0


def test_the_reason_why_nothing_can_be_sampled(tmp_path: Path) -> None:
    replay = open_replay(tmp_path / "a")
    replay.add(make_step(is_first=True))
    with pytest.raises(ReplayError, match=r"holds 1 steps .* 0 finished episodes.*or set replay.sampling=steps\."):
        replay.check_sampleable()
    for _ in range(2):
        add_episode(replay, 4)
    with pytest.raises(ReplayError, match=r"batch_length=5 is too long for all of the 3 .* longest has 4 .*\. Lower"):
        replay.sample(np.random.default_rng(0))
    replay = open_replay(tmp_path / "b", sampling="steps", envs=2)
    replay.add(make_step(0, 2, is_first=True))
    with pytest.raises(ReplayError, match=r"batch_length=5 can.* holds 1 steps in a row.* replay.capacity\."):
        replay.check_sampleable()


def test_too_short_says_it_as_soon_as_episodes_have_ended(tmp_path: Path) -> None:
    replay = open_replay(tmp_path)
    assert replay.too_short() == ""
    add_episode(replay, 4)
    assert "too long for all of the 1 finished episodes" in replay.too_short()
    assert "the longest has 4 (3 frames at env.action_repeat=1). Lower" in replay.too_short()
    with pytest.raises(ReplayError, match=r"the longest has 4 \(6 frames at"):
        replay.check_sampleable(2)
    add_episode(replay, 9)
    assert replay.too_short() == ""
    assert open_replay(tmp_path / "steps", sampling="steps").too_short() == ""


def test_another_environment_is_refused(tmp_path: Path) -> None:
    open_replay(tmp_path).close()
    other = {**SPECS, "vector": ArraySpec((7,), "float32"), "image": ArraySpec((64, 64, 3), "uint8")}
    with pytest.raises(ReplayError, match=r"'vector', 'float32', \[2\].* there, .*image.*\[7\].* here"):
        ReplayBuffer(tmp_path / "replay.db", other, ReplayConfig(), 1)


def test_a_second_commit_of_the_same_steps_does_not_count(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, capacity=300)
    for i in range(2):
        add_episode(replay, 150, 1000 * i)
    commit = replay.commit()
    for i in range(2, 8):
        add_episode(replay, 150, 1000 * i)
    assert replay.commit() == replay.commit()
    replay.rewind(commit)
    assert replay.num_steps == 300
    rewards = replay.sample(np.random.default_rng(0))["reward"]
    assert rewards.max() < 1150 and (np.diff(rewards, axis=0) == 1).all()


def test_rewinding_is_itself_a_commit(tmp_path: Path) -> None:
    replay = open_replay(tmp_path)
    add_episode(replay, 10)
    commit = replay.commit()
    add_episode(replay, 20)
    replay.commit()
    replay.rewind(commit)
    again = open_replay(tmp_path)
    assert again.num_steps == 10 and again.commit() == commit


def test_a_foreign_commit_is_refused(tmp_path: Path) -> None:
    replay = open_replay(tmp_path / "a")
    add_episode(replay, 20)
    commit = replay.commit()
    other = open_replay(tmp_path / "b")
    add_episode(other, 7)
    for wrong, message in ((commit, "do not belong together"), ({"rows": 3}, "not a commit"), (None, "not a commit")):
        with pytest.raises(ReplayError, match=message):
            other.rewind(wrong)
    assert other.num_steps == 7 and other.num_episodes == 1


def test_a_program_that_dies_leaves_the_last_commit(tmp_path: Path) -> None:
    replay = open_replay(tmp_path)
    add_episode(replay, 20)
    replay.commit()
    add_episode(replay, 30)
    again = open_replay(tmp_path)
    assert again.num_steps == 20 and again.num_episodes == 1


def test_open_and_close_change_nothing(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, capacity=1000)
    add_episode(replay, 20)
    replay.commit()
    replay.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    again = open_replay(tmp_path)
    again.sample(np.random.default_rng(0))
    again.close()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("reopened", [False, True])
def test_an_older_commit_restores_what_is_left(tmp_path: Path, reopened: bool) -> None:
    replay = open_replay(tmp_path, capacity=300)
    add_episode(replay, 150)
    old = replay.commit()
    for i in range(8):
        add_episode(replay, 150, 1000 * i)
        replay.commit()
    if reopened:
        replay.close()
        replay = open_replay(tmp_path, capacity=300)
    replay.rewind(old)
    assert replay.num_steps == 0 and replay.num_episodes == 0
    add_episode(replay, 150, 7)
    assert replay.sample(np.random.default_rng(0))["reward"].min() >= 7


@contextmanager
def full_disk(replay: ReplayBuffer, kind: str) -> Iterator[None]:
    """Let no file grow: SQLite finds the disk full, or the system refuses to write."""
    if kind == "full":
        replay._database.execute("PRAGMA max_page_count=1")  # is set to the present number
        yield
        replay._database.execute("PRAGMA max_page_count=1000000000")
        return
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = max(path.stat().st_size for path in replay.path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


FULL = {
    "full": r"The disk is full.*earlier steps are intact. Free some space or lower replay.capacity",
    "refused": r"cannot be read or written .*earlier steps are intact. Check the disk and its free space",
}


@pytest.mark.parametrize("transaction_steps", [1, 10])
@pytest.mark.parametrize("kind", FULL)
def test_add_on_a_full_disk_loses_only_its_own_step(tmp_path: Path, kind: str, transaction_steps: int) -> None:
    specs = {**SPECS, "image": ArraySpec((128, 128, 3), "uint8")}
    replay = ReplayBuffer(tmp_path / "replay.db", specs, ReplayConfig(batch_length=5, fsync_interval=0), 1)
    replay.transaction_steps = transaction_steps

    def add(i: int) -> None:
        image = np.full((1, 128, 128, 3), i % 251, np.uint8)
        replay.add({**make_step(i, is_first=i % 20 == 0, is_last=i % 20 == 19), "image": image})

    for i in range(30):
        add(i)
    stored = 30
    with full_disk(replay, kind):
        with pytest.raises(ReplayError, match=FULL[kind]):
            for stored in range(30, 60):
                add(stored)
        assert replay.num_steps == stored
        with pytest.raises(ReplayError, match=FULL[kind]):
            add(stored)
        assert (np.diff(replay.sample(np.random.default_rng(0))["reward"], axis=0) == 1).all()
    for i in range(stored, 100):
        add(i)
    replay.close()
    replay = ReplayBuffer(tmp_path / "replay.db", specs, ReplayConfig(batch_length=5, fsync_interval=0), 1)
    [rewards] = [np.concatenate([part["reward"] for part in replay.latest_episode(0, 100)])]
    assert rewards.tolist() == list(range(100))


@pytest.mark.parametrize("kind", FULL)
def test_commit_on_a_full_disk_keeps_the_one_before(tmp_path: Path, kind: str) -> None:
    replay = open_replay(tmp_path)
    add_episode(replay, 20)
    commit = replay.commit()
    replay.transaction_steps = 100_000
    add_episode(replay, 9000)
    with full_disk(replay, kind), pytest.raises(ReplayError, match=FULL[kind]):
        replay.commit()
    shutil.copytree(tmp_path, tmp_path / "killed")
    again = open_replay(tmp_path / "killed")
    again.check(commit)
    assert again.num_steps == 20
    replay.commit()
    assert replay.num_steps == 9020
    replay.close()
    assert open_replay(tmp_path).num_steps == 9020


@pytest.mark.parametrize("size", [1, 10])
def test_killed_process_loses_only_the_open_transaction(tmp_path: Path, size: int) -> None:
    replay = open_replay(tmp_path)
    replay.transaction_steps = size
    for i in range(5):
        replay.add(make_step(i, is_first=i == 0))
    commit = replay.commit()
    for i in range(5, 38):
        replay.add(make_step(i, is_last=i == 17, is_first=i == 18))
    shutil.copytree(tmp_path, tmp_path / "killed")
    again = open_replay(tmp_path / "killed")
    assert again.num_steps == 5 and again.rewind(commit)
    kept = {1: 33, 10: 30}[size]
    assert again.recover_uncommitted() == (kept - 1, 1)  # one step is that of a reset
    assert again.num_steps == 5 + kept and again.open_steps(0) == 5 + kept - 18
    assert again.recover_uncommitted() == (0, 0)
    rewards = np.concatenate([part["reward"] for part in again.latest_episode(0, 5 + kept)])
    assert rewards.tolist() == list(range(5 + kept))
    again.close()
    assert not verify(again.path, SPECS).damage


def test_recover_of_some_environments_drops_the_others(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, envs=3)
    for i in range(4):
        replay.add(make_step(i, 3, is_first=i == 0))
    commit = replay.commit()
    for i in range(4, 30):
        step = make_step(i, 3)
        step["is_last"], step["is_first"] = (np.array([(i + k) % n == 0 for n in (5, 7, 9)]) for k in (1, 0))
        replay.add(step)
    replay.rewind(commit)
    _, num_ends = replay.recover_uncommitted([0, 2])
    assert num_ends == 9 and replay.num_steps == 4 * 3 + 2 * 26
    assert [replay.open_steps(env) for env in range(3)] == [0, 4, 3]
    rewards = [np.concatenate([p["reward"] for p in replay.latest_episode(env, 30)] or [[]]) for env in range(3)]
    assert [len(each) for each in rewards] == [30, 0, 30] and rewards[2].tolist() == list(range(30))
    replay.close()
    assert not verify(replay.path, SPECS).damage
    with closing(sqlite3.connect(replay.path)) as database:
        [(count,)] = database.execute("SELECT count(*) FROM steps")
    assert count == 4 * 3 + 2 * 26


def test_rewind_far_back_recovers_nothing(tmp_path: Path) -> None:
    replay = open_replay(tmp_path)
    commits = []
    for i in range(3):
        add_episode(replay, 10, 100 * i)
        commits.append(replay.commit())
    assert replay.rewind(commits[0]) and replay.num_steps == 10
    assert replay.recover_uncommitted() == (0, 0)
    assert replay.rewind(commits[0]) and replay.recover_uncommitted() == (0, 0)


def test_few_steps_are_stored_when_the_interval_has_passed(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, fsync_interval=0.01)
    for i in range(3):
        replay.add(make_step(i, is_first=i == 0))
        time.sleep(0.02)
    with closing(sqlite3.connect(replay.path)) as database:
        [(count,)] = database.execute("SELECT count(*) FROM steps")
    assert 2 <= count <= 3
    replay.close()


def test_memory_does_not_grow_with_what_is_sampled(tmp_path: Path) -> None:
    """The pages of a memory map would count; 64 MiB are stored and drawn from here."""
    specs = {**SPECS, "image": ArraySpec((64, 64, 4), "uint8")}
    envs = 32
    replay = ReplayBuffer(tmp_path / "replay.db", specs, ReplayConfig(batch_length=16, sampling="steps"), envs)
    images = np.random.default_rng(0).integers(0, 256, (envs, *specs["image"].shape), np.uint8)
    step = {**make_step(0, envs, is_first=True), "image": images}
    for _ in range(128):
        replay.add(step)
    rng, process = np.random.default_rng(0), psutil.Process()
    batch = replay.sample(rng)
    before = process.memory_info().rss
    for _ in range(60):
        replay.sample(rng, batch)
    assert process.memory_info().rss - before < 2**24
    replay.close()


def test_has_steps_of_a_replay_whose_creation_was_cut_short_is_false(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "replay.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=65536")
        connection.execute("PRAGMA journal_mode=WAL")
    assert (tmp_path / "replay.db").stat().st_size > 0
    assert not has_steps(tmp_path / "replay.db")

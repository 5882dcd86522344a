"""What a user of the replay sees: validation, bounds, errors, and the disk."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from scipy import stats

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import Replay
from reverie.specs import STEP_KEYS, ArraySpec, Step

SPECS = {"vector": ArraySpec((2,), "float32"), "action": ArraySpec((3,), "float32"), **STEP_KEYS}


def make_step(number: int = 0, streams: int = 1, **flags: bool) -> Step:
    """A step whose reward is its number, the same in every stream."""
    step = {key: np.zeros((streams, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
    step["reward"][:] = number
    for key, value in flags.items():
        step[key][:] = value
    return step


def add_episode(replay: Replay, total: int, begin: int = 0) -> None:
    for i in range(total):
        replay.add(make_step(begin + i, is_first=i == 0, is_last=i == total - 1))


def open_replay(directory: Path, streams: int = 1, **settings: Any) -> Replay:
    return Replay(directory, SPECS, ReplayConfig(**{"batch_size": 4, "batch_length": 5, **settings}), streams)


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
    replay.end_streams()
    assert replay.sample(np.random.default_rng(0))["is_last"][-1, 0]
    with pytest.raises(ReplayError, match="is_first is not set"):
        replay.add(make_step(6))


def test_rewinding_opens_a_truncated_episode_again(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, sampling="steps", batch_size=1)
    for i in range(5):
        replay.add(make_step(i, is_first=i == 0))
    position = replay.commit()
    replay.end_streams()
    replay.close()
    replay = open_replay(tmp_path, sampling="steps", batch_size=1)
    assert replay.sample(np.random.default_rng(0))["is_last"][-1, 0]
    replay.rewind(json.loads(json.dumps(position)))
    assert not replay.sample(np.random.default_rng(0))["is_last"].any()
    replay.add(make_step(5))
    assert replay.num_steps == 6


def test_capacity_drops_whole_episodes_oldest_first(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, streams=2, capacity=50)
    for i in range(100):
        lasts = np.array([i % 10 == 9, i % 15 == 14])
        step = make_step(i, 2)
        step["is_first"], step["is_last"] = np.array([i % 10 == 0, i % 15 == 0]), lasts
        replay.add(step)
        assert replay.num_steps <= 50
    rewards = replay.sample(np.random.default_rng(0))["reward"]
    assert rewards.min() >= 65
    # Finished, in order: …, [70, 80) of stream 0, [60, 75), [80, 90), [75, 90), [90, 100); [90, 100) is open in 1.
    assert replay.num_steps == 10 + 15 + 10 + 10


def test_an_endless_episode_keeps_its_newest_steps(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, sampling="steps", capacity=300, batch_size=300)
    for i in range(1500):
        replay.add(make_step(i, is_first=i == 0))
    assert replay.num_steps == 300
    rewards = replay.sample(np.random.default_rng(0))["reward"]
    assert 1200 <= rewards.min() < 1300 and 1400 < rewards.max() < 1500
    assert len(list(tmp_path.glob("*.safetensors"))) <= 3


def test_the_last_episode_that_can_be_sampled_is_shortened_first(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, capacity=20)
    add_episode(replay, 18)
    for i in range(14):
        replay.add(make_step(100 + i, is_first=i == 0))
        assert replay.num_steps <= 20 and replay.num_episodes == 1
    assert set(replay.sample(np.random.default_rng(0))["reward"][0]) <= {12, 13}
    replay.add(make_step(114))
    assert replay.num_episodes == 0
    with pytest.raises(ReplayError, match=r"raise training.prefill or replay.capacity"):
        replay.check_sampleable()


def test_open_episodes_that_were_shortened_too_much_cannot_be_sampled(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, streams=2, capacity=8)
    for i in range(20):
        replay.add(make_step(i, 2, is_first=i == 0))
    replay.end_streams()
    assert replay.num_steps == 8 and replay.num_episodes == 0
    with pytest.raises(ReplayError, match=r"all of the 2 finished episodes.* the longest has 4"):
        replay.sample(np.random.default_rng(0))


def test_rows_select_streams(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, streams=3)
    replay.add(make_step(0, 3, is_first=True), np.array([True, False, True]))
    replay.add(make_step(1, 3, is_first=True), np.array([False, True, False]))
    assert replay.num_steps == 3
    with pytest.raises(ReplayError, match="rows has shape"):
        replay.add(make_step(2, 3), np.array([True]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vector": None}, "missing: vector"),
        ({"bonus": np.zeros(1)}, "unknown: bonus"),
        ({"vector": np.zeros((1, 3), np.float32)}, r"'vector' as float32 \[1, 2\].*given float32 \[1, 3\]"),
        ({"vector": np.zeros((1, 2))}, r"'vector' as float32 \[1, 2\].*given float64"),
        ({"action": np.zeros((2, 3), np.float32)}, r"'action'.*given float32 \[2, 3\]"),
        ({"is_first": np.array([False])}, "is_first is not set; reset the environment"),
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
    with pytest.raises(ReplayError, match=r"None of the 1 steps .* finished episode.*set replay.sampling=steps"):
        replay.check_sampleable()
    for _ in range(2):
        add_episode(replay, 4)
    with pytest.raises(ReplayError, match=r"batch_length=5 is too long for all of the 3 .* longest has 4; lower"):
        replay.sample(np.random.default_rng(0))
    replay = open_replay(tmp_path / "b", sampling="steps", streams=2)
    replay.add(make_step(0, 2, is_first=True))
    with pytest.raises(ReplayError, match=r"batch_length=5 is longer than .* \(1 steps\)"):
        replay.check_sampleable()


def test_too_short_says_it_as_soon_as_episodes_have_ended(tmp_path: Path) -> None:
    replay = open_replay(tmp_path)
    assert replay.too_short() == ""
    add_episode(replay, 4)
    assert "too long for all of the 1 finished episodes" in replay.too_short()
    assert "the longest has 4; lower" in replay.too_short()
    assert "the longest has 4 (6 frames at env.action_repeat=2); lower" in replay.too_short(2)
    with pytest.raises(ReplayError, match=r"the longest has 4 \(6 frames at env\.action_repeat=2\)"):
        replay.check_sampleable(2)
    add_episode(replay, 9)
    assert replay.too_short() == ""
    assert open_replay(tmp_path / "steps", sampling="steps").too_short() == ""


def test_another_environment_is_refused(tmp_path: Path) -> None:
    open_replay(tmp_path).close()
    other = {**SPECS, "vector": ArraySpec((7,), "float32"), "image": ArraySpec((64, 64, 3), "uint8")}
    with pytest.raises(ReplayError, match=r"image: absent there.*vector: float32 \[2\] there, float32 \[7\] here"):
        Replay(tmp_path, other, ReplayConfig(), 1)


def test_a_damaged_or_newer_index_is_refused(tmp_path: Path) -> None:
    open_replay(tmp_path).close()
    path = tmp_path / "index.json"
    content = json.loads(path.read_text())
    for text in ("", "[]", "{", json.dumps({**content, "commits": 3}), json.dumps({**content, "episodes": [1, 2]})):
        path.write_text(text)
        with pytest.raises(ReplayError, match=r"index.json is damaged: it .*; put it back from a copy"):
            open_replay(tmp_path)
    path.write_text(json.dumps({**content, "version": 3}))
    with pytest.raises(ReplayError, match="reverie-replay 3, and this program reads reverie-replay up to version 2"):
        open_replay(tmp_path)


def test_a_shortened_or_missing_segment_is_reported(tmp_path: Path) -> None:
    replay = open_replay(tmp_path)
    add_episode(replay, 20)
    replay.close()
    (segment,) = tmp_path.glob("*.safetensors")
    os.truncate(segment, 5000)
    with pytest.raises(ReplayError, match=r"safetensors is damaged"):
        open_replay(tmp_path).sample(np.random.default_rng(0))
    segment.unlink()
    with pytest.raises(ReplayError, match=r"cannot be read or written"):
        open_replay(tmp_path).sample(np.random.default_rng(0))


def test_a_second_commit_of_the_same_steps_does_not_count(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, capacity=300)
    for i in range(2):
        add_episode(replay, 150, 1000 * i)
    position = replay.commit()
    for i in range(2, 8):
        add_episode(replay, 150, 1000 * i)
    assert replay.commit() == replay.commit()
    replay.rewind(position)
    assert replay.num_steps == 300
    rewards = replay.sample(np.random.default_rng(0))["reward"]
    assert rewards.max() < 1150 and (np.diff(rewards, axis=0) == 1).all()


def test_rewinding_is_itself_a_commit(tmp_path: Path) -> None:
    replay = open_replay(tmp_path)
    add_episode(replay, 10)
    position = replay.commit()
    add_episode(replay, 20)
    replay.commit()
    replay.rewind(position)
    again = open_replay(tmp_path)
    assert again.num_steps == 10 and again.commit() == position


def test_a_foreign_position_is_refused(tmp_path: Path) -> None:
    replay = open_replay(tmp_path / "a")
    add_episode(replay, 20)
    position = replay.commit()
    other = open_replay(tmp_path / "b")
    add_episode(other, 7)
    for wrong, message in ((position, "do not belong together"), ({"rows": 3}, "not a position"), (None, "not a pos")):
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


def test_reopening_alone_changes_nothing(tmp_path: Path) -> None:
    """Another program may look at the replay of a run that goes on."""
    replay = open_replay(tmp_path, capacity=1000)
    add_episode(replay, 20)
    replay.commit()
    add_episode(replay, 300)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    reader = open_replay(tmp_path)
    reader.sample(np.random.default_rng(0))
    reader.close()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("reopened", [False, True])
def test_an_older_position_restores_what_is_left(tmp_path: Path, reopened: bool) -> None:
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


@pytest.mark.parametrize("allowed", range(14))
def test_a_full_disk_costs_only_the_step_that_found_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """The disk fills up after some writes, in the middle of one."""
    replay = open_replay(tmp_path, streams=2, capacity=4000)
    for i in range(256):  # Up to the border of a segment, so that new ones must be created.
        replay.add(make_step(i, 2, is_first=i % 32 == 0, is_last=i % 32 == 31))
    write, left = os.pwrite, allowed

    def full(descriptor: int, data: Any, position: int) -> int:
        nonlocal left
        left -= 1
        if left == -1 and len(data) > 1:
            return write(descriptor, data[: len(data) // 2], position)
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, position)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ReplayError, match=r"The disk is full.*free some space or lower replay.capacity"):
        replay.add(make_step(256, 2, is_first=True))
    monkeypatch.undo()
    assert replay.num_steps == 512
    rng = np.random.default_rng(0)
    assert (np.diff(replay.sample(rng)["reward"], axis=0) == 1).all()
    for i in range(256, 288):
        replay.add(make_step(i, 2, is_first=i % 32 == 0, is_last=i % 32 == 31))
    replay.close()
    replay = open_replay(tmp_path, streams=2, capacity=4000)
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    starts = {int(r) for _ in range(100) for r in replay.sample(rng)["reward"][0]}
    assert max(starts) == 283 and replay.num_steps == 576


def test_a_disk_that_is_full_at_a_commit_keeps_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = open_replay(tmp_path)
    add_episode(replay, 20)
    replay.commit()
    add_episode(replay, 20)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ReplayError, match="The disk is full"):
        replay.commit()
    monkeypatch.undo()
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert open_replay(tmp_path).num_steps == 20
    replay.commit()
    assert open_replay(tmp_path).num_steps == 40


def test_memory_does_not_grow_with_what_is_sampled(tmp_path: Path) -> None:
    """The pages of a memory map would count; 64 MiB are stored and drawn from here."""
    specs = {**SPECS, "image": ArraySpec((64, 64, 4), "uint8")}
    streams = 32
    replay = Replay(tmp_path, specs, ReplayConfig(batch_length=16, sampling="steps"), streams)
    images = np.random.default_rng(0).integers(0, 256, (streams, *specs["image"].shape), np.uint8)
    step = {**make_step(0, streams, is_first=True), "image": images}
    for _ in range(128):
        replay.add(step)
    rng, process = np.random.default_rng(0), psutil.Process()
    batch = replay.sample(rng)
    before = process.memory_info().rss
    for _ in range(60):
        replay.sample(rng, batch)
    assert process.memory_info().rss - before < 2**24
    replay.close()

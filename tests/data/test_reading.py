"""Reading a replay from Python: `reverie.ReplayBuffer(path)` and `reverie.SequenceDataset`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import reverie
from reverie.errors import ReplayError
from tests.helpers.recordings import PICTURES, POLE, assert_same, make_episodes, store


def test_replay_buffer_of_a_path_yields_episodes(tmp_path: Path) -> None:
    episodes = make_episodes(PICTURES)
    data = store(tmp_path / "data", PICTURES, episodes)
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    for path in (data, str(data), data / "replay.db"):
        replay = reverie.ReplayBuffer(path)
        assert_same([*replay.episodes()], episodes)
        assert replay.steps == PICTURES.step and replay.num_steps == sum(len(e["reward"]) for e in episodes)
        replay.close()
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_replay_buffer_of_a_path_stores_nothing(tmp_path: Path) -> None:
    [episode] = episodes = make_episodes(POLE, [3])
    data = store(tmp_path / "data", POLE, episodes)
    with reverie.ReplayBuffer(data) as replay, pytest.raises(ReplayError, match="opened for reading"):
        for _ in range(2):
            replay.add({key: rows[:1] for key, rows in episode.items()})
    assert len([*reverie.ReplayBuffer(data).episodes()]) == 1


def test_replay_buffer_of_a_missing_path_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="There is no replay"):
        reverie.ReplayBuffer(tmp_path / "typo.db")
    assert not [*tmp_path.iterdir()]


def test_replay_buffer_of_a_path_sees_a_writer_as_of_its_last_commit(tmp_path: Path) -> None:
    first, second = make_episodes(POLE, [3, 300])
    data = store(tmp_path / "data", POLE, [first])
    with reverie.ReplayBuffer(data, POLE.step) as writer:
        for t in range(301):
            writer.add({key: rows[t : t + 1] for key, rows in second.items()})
        with reverie.ReplayBuffer(data) as replay:
            assert_same([*replay.episodes()], [first])
        writer.commit()
        with reverie.ReplayBuffer(data) as replay:
            assert_same([*replay.episodes()], [first, second])


def find(sequence: dict[str, torch.Tensor], episodes: list[dict[str, Any]]) -> tuple[int, int]:
    """Return the episode and the row where a sequence begins; each observation is unique."""
    vector = sequence["vector"].numpy()
    for number, episode in enumerate(episodes):
        for start in range(len(episode["reward"]) - len(vector) + 1):
            if (episode["vector"][start : start + len(vector)] == vector).all():
                return number, start
    raise AssertionError("This sequence is in no episode.")


def test_sequences_are_parts_of_episodes(tmp_path: Path) -> None:
    episodes = make_episodes(POLE, (4, 12, 30))
    data = store(tmp_path / "data", POLE, episodes)
    found = set()
    for _, sequence in zip(range(60), reverie.SequenceDataset(data, length=10), strict=False):
        number, start = find(sequence, episodes)
        found.add((number, start))
        for key, rows in episodes[number].items():
            expected = rows[start : start + 10].copy()
            if key == "is_first":
                expected[0] = True
            assert (sequence[key].numpy() == expected).all() and sequence[key].numpy().dtype == rows.dtype
    assert {number for number, _ in found} == {1, 2} and len(found) > 15


def test_sequences_of_steps_cross_episodes(tmp_path: Path) -> None:
    data = store(tmp_path / "data", POLE, make_episodes(POLE, [3] * 9))
    sequence = next(iter(reverie.SequenceDataset(data, length=10, sampling="steps")))
    assert sequence["is_first"].sum() >= 3


def test_sequences_of_a_seed_repeat_and_workers_differ(tmp_path: Path) -> None:
    data = store(tmp_path / "data", POLE, make_episodes(POLE, [40]))
    dataset = reverie.SequenceDataset(data, length=5, seed=3)
    one, other = (next(iter(DataLoader(dataset, 4)))["vector"] for _ in range(2))
    assert one.shape == (4, 5, 4) and torch.equal(one, other)
    batches = DataLoader(dataset, 4, num_workers=2)
    first, second = (batch["vector"] for batch, _ in zip(batches, range(2), strict=False))
    assert torch.equal(first, one) and not torch.equal(first, second)


def test_sequences_of_too_short_episodes_are_refused(tmp_path: Path) -> None:
    data = store(tmp_path / "data", POLE, make_episodes(POLE, (4, 9)))
    with pytest.raises(ReplayError, match="too long for all of the 2"):
        reverie.SequenceDataset(data, length=10)


def test_public_names_are_those_of_the_package() -> None:
    assert reverie.ReplayBuffer is __import__("reverie.replay", fromlist=["_"]).ReplayBuffer
    assert np.all([name in dir(reverie) for name in ("ReplayBuffer", "SequenceDataset")])

"""Batches that are drawn ahead are those that would have been drawn."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import ReplayBuffer
from reverie.specs import ArraySpec
from reverie.training.prefetch import Arrays, Prefetcher

CPU = torch.device("cpu")
Start = Callable[[Callable[[Arrays | None], Arrays]], Prefetcher]


@pytest.fixture
def start() -> Iterator[Start]:
    """Make prefetchers that are closed in the end."""
    made: list[Prefetcher] = []

    def make(sample: Callable[[Arrays | None], Arrays]) -> Prefetcher:
        made.append(Prefetcher(sample, CPU))
        return made[-1]

    yield make
    for prefetcher in made:
        prefetcher.close()


@pytest.fixture
def replay(tmp_path: Path) -> Iterator[ReplayBuffer]:
    """An episode of 50 numbered steps."""
    steps = {"image": ArraySpec((2,), "float32"), "is_first": ArraySpec((), "bool"), "is_last": ArraySpec((), "bool")}
    replay = ReplayBuffer(
        tmp_path / "replay.db", steps, ReplayConfig(batch_size=3, batch_length=4, capacity=100, sampling="steps"), 1
    )
    for t in range(50):
        flags = {"is_first": np.array([t == 0]), "is_last": np.array([False])}
        replay.add({"image": np.full((1, 2), t, np.float32), **flags})
    yield replay
    replay.close()


def test_the_same_batches(replay: ReplayBuffer, start: Start) -> None:
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    prefetcher = start(lambda out: replay.sample(rng, out))
    for count in (1, 3, 0, 2):
        drawn = 0
        batches = [replay.sample(other) for _ in range(count)]  # beforehand: a replay draws one batch at a time
        for batch, expected in zip(prefetcher.batches(count), batches, strict=True):
            for key, value in expected.items():
                assert np.array_equal(batch[key].numpy(), value)
            drawn += 1
        assert drawn == count
    assert rng.bit_generator.state == other.bit_generator.state


def test_the_next_is_drawn_meanwhile(start: Start) -> None:
    began = [threading.Event() for _ in range(3)]
    numbers = iter(range(3))

    def sample(out: Arrays | None) -> Arrays:
        number = next(numbers)
        began[number].set()
        return {"number": np.array(number)}

    for index, batch in enumerate(start(sample).batches(3)):
        assert int(batch["number"]) == index
        assert all(event.wait(60) for event in began[: index + 2])
        assert not any(event.is_set() for event in began[index + 2 :])


def test_two_sets_of_arrays(start: Start) -> None:
    given = []

    def sample(out: Arrays | None) -> Arrays:
        given.append(out)
        return {"x": np.zeros(1)} if out is None else out

    prefetcher = start(sample)
    pointers = [batch["x"].data_ptr() for batch in prefetcher.batches(4)]
    assert pointers[:2] == pointers[2:]
    assert pointers[0] != pointers[1]
    assert [out is None for out in given] == [True, True, False, False]


def test_errors_arrive_and_a_broken_off_iteration_harms_nothing(start: Start) -> None:
    numbers = iter(range(10))

    def sample(out: Arrays | None) -> Arrays:
        number = next(numbers)
        if number == 2:
            raise ReplayError("damaged")
        return {"number": np.array(number)}

    prefetcher = start(sample)
    seen = []
    with pytest.raises(ReplayError, match="damaged"):
        for batch in prefetcher.batches(5):
            seen.append(int(batch["number"]))
    assert seen == [0, 1]
    for batch in prefetcher.batches(3):
        assert int(batch["number"]) == 3
        break
    assert [int(batch["number"]) for batch in prefetcher.batches(2)] == [5, 6]

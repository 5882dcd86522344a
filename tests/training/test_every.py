"""The schedule of updates against the release's, and its independence of the number of environments."""

import pytest

from reverie.training.every import Every


def test_first_question_and_then_every_period() -> None:
    due = Every(16)
    assert [step for step in range(50, 120) for _ in range(due(step))] == [50, 66, 82, 98, 114]


@pytest.mark.parametrize("envs", [1, 3, 16, 40])
def test_jumps_lose_nothing(envs: int) -> None:
    due = Every(16, last=0)
    total = sum(due(step) for step in range(envs, 1601, envs))
    last = (1600 // envs) * envs
    assert total == last // 16


def test_how_long_until_it_is_due() -> None:
    due = Every(16)
    assert due.until(50) == 0
    due(50)
    assert [due.until(step) for step in (50, 51, 65, 66, 90)] == [16, 15, 1, 0, 0]
    assert Every(0).until(5) == 0


def test_zero_is_never() -> None:
    due = Every(0)
    assert [due(step) for step in range(5)] == [0] * 5

"""The schedule of updates against the release's, and its independence of the number of environments."""

import pytest

from reverie.training.every import Every


def test_every_is_due_at_the_first_question_and_then_every_period() -> None:
    due = Every(16)
    assert [step for step in range(50, 120) for _ in range(due(step))] == [50, 66, 82, 98, 114]


@pytest.mark.parametrize("envs", [1, 3, 16, 40])
def test_every_jumps_of_several_steps_lose_nothing(envs: int) -> None:
    due = Every(16, last=0)
    total = sum(due(step) for step in range(envs, 1601, envs))
    last = (1600 // envs) * envs
    assert total == last // 16


def test_every_zero_is_never_due() -> None:
    due = Every(0)
    assert [due(step) for step in range(5)] == [0] * 5

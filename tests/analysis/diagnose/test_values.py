"""Returns against closed forms, and biases that are known."""

import math
import statistics

import pytest
import torch

from reverie.analysis.diagnose.statistics import compare, replay_returns


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_a_return_by_hand() -> None:
    """r + g (r + g v): values include the reward of their own state, the last one is the critic's."""
    found = replay_returns(column(1, 2, 4), column(0, 0, 10), column(0.5, 0.5, 0.5), torch.zeros(3, 1).bool())
    assert found.flatten().tolist() == [1 + 0.5 * (2 + 0.5 * 10), 2 + 0.5 * 10, 10]


def test_a_terminal_step_has_its_reward_only() -> None:
    is_last = torch.tensor([[False], [True], [False]])
    found = replay_returns(column(1, 2, 4), column(7, 7, 7), column(0.5, 0, 0.5), is_last)
    assert found.flatten().tolist() == [1 + 0.5 * 2, 2, 7]
    end = replay_returns(column(1, 2), column(7, 7), column(0.5, 0), torch.tensor([[False], [True]]))
    assert end.flatten().tolist() == [2, 2]


def test_a_time_limit_is_bootstrapped() -> None:
    is_last = torch.tensor([[False], [True], [False]])
    found = replay_returns(column(1, 2, 4), column(7, 9, 7), column(0.5, 0.5, 0.5), is_last)
    assert found.flatten().tolist() == [1 + 0.5 * 9, 9, 7]


def test_constant_rewards_sum_to_the_geometric_series() -> None:
    steps, gamma = 40, 0.9
    exact = torch.full((steps, 3), 1 / (1 - gamma))
    found = replay_returns(torch.ones(steps, 3), exact, torch.full((steps, 3), gamma), torch.zeros(steps, 3).bool())
    assert found.allclose(exact, rtol=1e-5)


def test_a_known_offset_is_the_bias() -> None:
    generator = torch.Generator().manual_seed(0)
    returns = torch.randn(10, 6, generator=generator)
    found = compare(returns + 0.75, returns)
    assert found.bias == pytest.approx(0.75, rel=1e-5)
    assert found.bias_error == pytest.approx(0, abs=1e-6)
    assert found.correlation == pytest.approx(1) and found.explained == pytest.approx(1)
    assert (found.spread, found.states) == (pytest.approx(statistics.stdev(returns.flatten().tolist())), 60)


def test_the_error_of_the_bias_is_that_of_sequences() -> None:
    value = torch.tensor([[1.0, 3.0], [1.0, 3.0]])
    found = compare(value, torch.zeros(2, 2))
    # Two sequences with means 1 and 3: standard deviation sqrt(2), divided by sqrt(2).
    assert (found.bias, found.bias_error) == (2, pytest.approx(1))
    assert math.isinf(compare(value[:, :1], value[:, :1]).bias_error)

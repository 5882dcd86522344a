"""Reliability, groups and correlations against numbers by hand and numpy's."""

import math

import numpy as np
import pytest
import torch

from reverie.analysis.diagnose.statistics import (
    Bin,
    correlation,
    explained_variance,
    measure_discounts,
    measure_rewards,
    reliability,
)


def test_a_perfect_head_lies_on_the_diagonal() -> None:
    reward = torch.tensor([0.0, 0, 0, 1, 1, -0.5])
    found = measure_rewards(reward, reward)
    assert found.correlation == pytest.approx(1) and found.explained == pytest.approx(1)
    assert all(one.predicted == one.actual for one in found.bins)
    assert found.groups == {"zero": Bin(0, 0, 3), "positive": Bin(1, 1, 2), "negative": Bin(-0.5, -0.5, 1)}
    assert found.events == 3
    assert found.mean == found.predicted_mean == 0.25


def test_a_constant_head_foresees_nothing() -> None:
    found = measure_rewards(torch.full((4,), 0.25), torch.tensor([0.0, 0, 0, 1]))
    assert math.isnan(found.correlation)
    assert found.explained == pytest.approx(0)
    assert found.bins == [Bin(0.25, 0.25, 4)]


def test_a_head_that_predicts_half() -> None:
    actual = torch.tensor([0.0, 0, 2, 2])
    found = measure_rewards(actual / 2 + 0.1, actual)
    # mean((0.1)^2, (0.1)^2, 0.9^2, 0.9^2) = 0.41, variance 1
    assert found.explained == pytest.approx(1 - 0.41)


def test_bins_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, actual = torch.rand((2, 500), generator=generator)
    edges = (0.0, 0.2, 0.3, 0.9, 1.0)
    found = reliability(predicted, actual, edges)
    assert sum(one.steps for one in found) == 500
    for one, low, high in zip(found, edges[:-1], edges[1:], strict=True):
        kept = [(p, a) for p, a in zip(predicted.tolist(), actual.tolist(), strict=True) if low <= p < high]
        assert one.steps == len(kept)
        assert (one.predicted, one.actual) == pytest.approx(tuple(np.mean(kept, axis=0)), rel=1e-4)
    assert len(reliability(predicted, actual)) == 10


def test_correlation_and_explained_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, generator=generator)
    y = 0.3 * x + torch.randn(200, generator=generator)
    assert correlation(x, y) == pytest.approx(np.corrcoef(x.numpy(), y.numpy())[0, 1], rel=1e-4)
    assert explained_variance(x + 5, x) == pytest.approx(1)  # an offset costs nothing
    assert explained_variance(torch.zeros(200), x) == pytest.approx(0)
    assert math.isnan(explained_variance(x, torch.zeros(200))) and math.isnan(correlation(x, torch.zeros(200)))


def test_discounts() -> None:
    gamma = 0.9
    predicted = torch.tensor([0.9, 0.9, 0.45, 0.0, 0.99])
    terminal = torch.tensor([False, False, True, True, False])
    found = measure_discounts(predicted, terminal, torch.tensor([0.15]), gamma)
    assert found.on_going == pytest.approx((0.9 + 0.9 + 0.99) / 3)
    assert found.on_terminal == pytest.approx((0.45 + 0 + 0.15) / 3)
    assert found.terminals == 3
    assert found.end_rate == pytest.approx(0.4)
    assert found.predicted_end_rate == pytest.approx((0 + 0 + 0.5 + 1 + 0) / 5)
    # The soft label gamma is not an end: a head that predicts it lies at zero, on the diagonal.
    assert found.bins[0] == Bin(0, 0, 3)
    assert [(one.actual, one.steps) for one in found.bins[1:]] == [(1, 1), (1, 1)]


def test_without_ends() -> None:
    found = measure_discounts(torch.tensor([0.9]), torch.tensor([False]), torch.empty(0), 0.9)
    assert math.isnan(found.on_terminal) and found.terminals == 0

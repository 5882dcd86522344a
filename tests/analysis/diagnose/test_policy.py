"""The actor's figures for distributions whose figures are known."""

import math

import pytest
import torch

from reverie.analysis.diagnose.statistics import measure_policy
from reverie.dreamer.distributions import OneHot, TanhNormal, TruncatedNormal


def one_hot(*probabilities: list[float], sizes: tuple[int, ...] | None = None) -> OneHot:
    table = torch.tensor(probabilities).clamp(min=1e-30).log()
    return OneHot(table, sizes or (table.shape[-1],))


def test_random_actions() -> None:
    found = measure_policy(one_hot([0.25] * 4, [0.25] * 4))
    assert found.kind == "discrete"
    assert found.entropy == pytest.approx(math.log(4)) and found.max_entropy == pytest.approx(math.log(4))
    assert found.entropy_share == pytest.approx(1) and found.certain == 0
    assert found.dependence == pytest.approx(0, abs=1e-6)
    assert found.actions == [pytest.approx([0.25] * 4)]


def test_certain_actions_that_depend_on_the_state() -> None:
    found = measure_policy(one_hot([1, 0], [0, 1], [0, 1], [0.5, 0.5]))
    assert found.entropy == pytest.approx(math.log(2) / 4)
    assert found.certain == 0.75
    assert found.actions == [pytest.approx([1.5 / 4, 2.5 / 4])]
    mean = -(0.375 * math.log(0.375) + 0.625 * math.log(0.625))
    assert found.dependence == pytest.approx(mean - math.log(2) / 4, rel=1e-5)


def test_several_categoricals() -> None:
    found = measure_policy(one_hot([1, 0, 1 / 3, 1 / 3, 1 / 3], [1, 0, 1, 0, 0], sizes=(2, 3)))
    assert found.max_entropy == pytest.approx(math.log(2) + math.log(3))
    assert found.entropy == pytest.approx(math.log(3) / 2, rel=1e-5)
    assert found.certain == 0.5  # both parts, in the second state
    assert [len(part) for part in found.actions] == [2, 3]


@pytest.mark.parametrize("kind", [TruncatedNormal, TanhNormal])
def test_continuous_actions(kind: type[TruncatedNormal | TanhNormal]) -> None:
    loc = torch.tensor([[0.99, 0.0], [-0.99, 0.5]])
    loc = loc.atanh() if kind is TanhNormal else loc
    policy = kind(loc, torch.tensor([[0.2, 0.4], [0.4, 0.4]]))
    found = measure_policy(policy)
    assert found.kind == "continuous"
    assert found.certain == 0.5
    assert found.scale == pytest.approx([0.3, 0.4])
    assert found.mode == pytest.approx([0, 0.25], abs=1e-5)
    assert found.entropy == pytest.approx(policy.entropy().mean().item())
    assert found.max_entropy == pytest.approx(2 * math.log(2))

"""The fused optimizer step against the plain one."""

import pytest
import torch
from torch import nn

from reverie.config import OptimizerConfig
from reverie.dreamer.optimizer import Optimizer
from reverie.kernels.adam import FusedAdam


def make(kind: type[Optimizer], config: OptimizerConfig) -> tuple[nn.Module, Optimizer]:
    """Return a module with a convolution and an optimizer of it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4))
    optimizer = Optimizer([module], config)
    optimizer.__class__ = kind
    return module, optimizer


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_grad_norm": 0.1, "weight_decay": 0.1},
        {"max_grad_norm": 0.0, "weight_decay": 0.1, "weight_decay_on": "kernels"},
        {"eps": 1e-3},
    ],
    ids=["defaults", "clip and decay", "decay of kernels", "epsilon"],
)
def test_fused_adam_matches_optimizer(settings: dict[str, float]) -> None:
    config = OptimizerConfig(lr=1e-2, **settings)
    pairs = [make(kind, config) for kind in (Optimizer, FusedAdam)]
    for step in range(4):
        x = torch.randn((5, 2, 4, 4), generator=torch.Generator().manual_seed(step))
        lr = 1e-2 / (step + 1)
        results = [optimizer.step(module(x).square().sum(), lr) for module, optimizer in pairs]
        torch.testing.assert_close(results[0], results[1])
    for one, other in zip(*(module.parameters() for module, _ in pairs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    for name, value in pairs[0][1].state_dict().items():
        torch.testing.assert_close(pairs[1][1].state_dict()[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [Optimizer, FusedAdam])
@pytest.mark.parametrize("case", ["loss", "gradient", "caller"])
def test_step_that_is_not_valid_changes_the_count_only(kind: type[Optimizer], case: str) -> None:
    module, optimizer = make(kind, OptimizerConfig(lr=1e-2))
    x = torch.randn(5, 2, 4, 4)
    optimizer.step(module(x).square().sum(), 1e-2)
    before = [value.clone() for value in (*module.parameters(), *optimizer.exp_avg, *optimizer.exp_avg_sq)]
    loss = module(x).square().sum()
    factor = {"loss": float("nan"), "gradient": 3e38, "caller": 1.0}[case]
    result = optimizer.step(loss * factor, 1e-2, torch.tensor(case != "caller"))
    assert not result.is_valid
    after = [*module.parameters(), *optimizer.exp_avg, *optimizer.exp_avg_sq]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert optimizer.num_steps == 2


def test_fused_adam_counts_as_a_change_of_weights() -> None:
    """PyTorch's kernel changes no version, and casts of the weights would be those before the update."""
    module, optimizer = make(FusedAdam, OptimizerConfig(lr=1e-2))
    versions = [parameter._version for parameter in module.parameters()]
    optimizer.step(module(torch.ones(1, 2, 4, 4)).sum(), 1e-2)
    for parameter, version in zip(module.parameters(), versions, strict=True):
        assert parameter._version > version

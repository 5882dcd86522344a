"""The optimizer against TensorFlow's Adam written out in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reverie.config import OptimizerConfig
from reverie.dreamer.optimizer import Optimizer

Arrays = list[np.ndarray[Any, Any]]


def make_layer(seed: int = 0) -> nn.Linear:
    layer = nn.Linear(3, 2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer


def gradients_of(layer: nn.Linear, steps: int, scale: float) -> list[list[Tensor]]:
    """Return random gradients of each step, some larger than the clip and some smaller."""
    generator = torch.Generator().manual_seed(1)
    sizes = scale * torch.rand(steps, generator=generator)
    return [[size * torch.randn(p.shape, generator=generator) for p in layer.parameters()] for size in sizes]


def loss_with(layer: nn.Linear, gradients: list[Tensor]) -> Tensor:
    """Return a loss that has these gradients."""
    return torch.stack([(p * g).sum() for p, g in zip(layer.parameters(), gradients, strict=True)]).sum()


def tensorflow_adam(
    weights: Arrays, gradients: list[Arrays], rates: list[float], config: OptimizerConfig
) -> tuple[Arrays, list[float]]:
    """Return weights after steps of TensorFlow's Adam in float64, and the norms of the gradients.

    The global norm is clipped, weights decay by their own factor, and epsilon is added before the bias correction.
    """
    weights = [w.astype(np.float64) for w in weights]
    m, v, norms = [0 * w for w in weights], [0 * w for w in weights], []
    for t, (grads, lr) in enumerate(zip(gradients, rates, strict=True), start=1):
        norms.append(np.sqrt(sum(np.square(g, dtype=np.float64).sum() for g in grads)))
        if config.max_grad_norm and norms[-1] > config.max_grad_norm:
            grads = [g * config.max_grad_norm / norms[-1] for g in grads]
        rate = lr * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        for i, g in enumerate(grads):
            if config.weight_decay_on == "all" or weights[i].ndim > 1:
                weights[i] = weights[i] * (1 - config.weight_decay)
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * np.square(g, dtype=np.float64)
            weights[i] = weights[i] - rate * m[i] / (np.sqrt(v[i]) + config.eps)
    return weights, norms


@pytest.mark.parametrize("decay_on", ["all", "kernels"])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
@pytest.mark.parametrize("eps", [1e-5, 1e-1])
def test_optimizer_steps_are_those_of_tensorflows_adam(
    eps: float, max_grad_norm: float, weight_decay: float, decay_on: Any
) -> None:
    """With a learning rate that changes, gradients below and above the clip, and an epsilon that matters."""
    config = OptimizerConfig(
        lr=0.1, eps=eps, max_grad_norm=max_grad_norm, weight_decay=weight_decay, weight_decay_on=decay_on
    )
    layer = make_layer()
    weights = [p.detach().numpy().copy() for p in layer.parameters()]
    gradients, rates = gradients_of(layer, 20, scale=1.0), [0.1 / (1 + t) for t in range(20)]
    optimizer = Optimizer([layer], config)
    norms = []
    for grads, lr in zip(gradients, rates, strict=True):
        norm, is_valid = optimizer.step(loss_with(layer, grads), lr)
        assert is_valid
        norms.append(norm.item())
    expected, expected_norms = tensorflow_adam(
        weights, [[g.numpy() for g in grads] for grads in gradients], rates, config
    )
    assert min(norms) < 1.0 < max(norms)
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-5)
    for parameter, weight in zip(layer.parameters(), expected, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-4, atol=1e-5)


def test_learning_rate_has_no_side_effect() -> None:
    """Reading it any number of times, for any step, changes neither its value nor later steps."""
    config = OptimizerConfig(lr="linear(0.5,0.1,80)")
    layers = make_layer(), make_layer()
    read, unread = (Optimizer([layer], config) for layer in layers)
    gradients = gradients_of(layers[0], 3, 1.0)
    for t, grads in enumerate(gradients):
        rates = [read.learning_rate(step) for step in (0, 40, 80, 40, 40)]
        assert rates == pytest.approx([0.5, 0.3, 0.1, 0.3, 0.3])
        for optimizer, layer in zip((read, unread), layers, strict=True):
            optimizer.step(loss_with(layer, grads), 0.5)
        assert read.num_steps == unread.num_steps == t + 1
    assert all(torch.equal(a, b) for a, b in zip(*(layer.parameters() for layer in layers), strict=True))


def test_step_differentiates_its_own_parameters_only() -> None:
    mine, other = make_layer(0), make_layer(1)
    before = [p.clone() for p in other.parameters()]
    Optimizer([mine], OptimizerConfig(lr=0.1)).step(other(mine(torch.ones(3)).repeat(2)[:3]).sum(), 0.1)
    assert all(torch.equal(p, b) and p.grad is None for p, b in zip(other.parameters(), before, strict=True))


@pytest.mark.parametrize("decay_on", ["all", "kernels"])
@pytest.mark.parametrize("max_grad_norm", [0.0, 100.0])
def test_step_not_finite_or_not_valid_changes_no_weight_or_moment(max_grad_norm: float, decay_on: Any) -> None:
    """Also where the loss is finite and only its gradient is not: the root at 0. The step is counted."""
    config = OptimizerConfig(lr=0.1, weight_decay=0.1, max_grad_norm=max_grad_norm, weight_decay_on=decay_on)
    layer = make_layer()
    optimizer = Optimizer([layer], config)
    optimizer.step(layer(torch.ones(3)).square().sum(), 0.1)
    weight, bias = layer.parameters()

    def state() -> list[Tensor]:
        moments = [value for name, value in optimizer.state_dict().items() if name != "num_steps"]
        return [value.detach().clone() for value in (weight, bias, *moments)]

    before = state()
    root = (weight - weight.detach()).sqrt().sum() + (0 * bias).sum()
    nan, inf = layer(torch.full((3,), torch.nan)), layer(torch.ones(3)) * torch.inf
    for broken in (root, nan.square().sum(), inf.square().sum()):
        assert not optimizer.step(broken, 0.1).is_valid
    assert not optimizer.step(layer(torch.ones(3)).square().sum(), 0.1, torch.tensor(False)).is_valid
    assert all(torch.equal(a, b) for a, b in zip(state(), before, strict=True))
    assert optimizer.num_steps == 5
    assert optimizer.step(layer(torch.ones(3)).square().sum(), 0.1, torch.tensor(True)).is_valid
    assert not any(torch.equal(a, b) for a, b in zip(state(), before, strict=True))


def test_state_dict_restored_continues_the_same() -> None:
    config = OptimizerConfig(lr=0.1, max_grad_norm=1.0)
    layers = make_layer(), make_layer()
    one, other = (Optimizer([layer], config) for layer in layers)
    gradients = gradients_of(layers[0], 4, 1.0)
    for grads in gradients[:2]:
        one.step(loss_with(layers[0], grads), 0.1)
    layers[1].load_state_dict(layers[0].state_dict())
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    for grads in gradients[2:]:
        one.step(loss_with(layers[0], grads), 0.1)
        other.step(loss_with(layers[1], grads), 0.1)
    assert all(torch.equal(a, b) for a, b in zip(*(layer.parameters() for layer in layers), strict=True))
    assert one.num_steps == other.num_steps == 4


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_load_state_dict_that_does_not_fit_is_refused(change: str) -> None:
    optimizer = Optimizer([make_layer()], OptimizerConfig())
    state = optimizer.state_dict()
    if change == "missing":
        del state["0.exp_avg"]
    else:
        state["0.exp_avg"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"0\.exp_avg should have shape \(2, 3\)"):
        optimizer.load_state_dict(state)

"""What all comparisons share: tolerances, layouts, latent states."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reverie.dreamer import State

Array = np.ndarray[Any, Any]
Golden = dict[str, Array]
LoadGolden = Callable[[str], Golden]
LoadWeights = Callable[..., None]
"""`load(module, weights, …)`: see the fixture `load` of conftest.py."""

DEVICE = os.environ.get("REVERIE_PARITY_DEVICE", "cpu")
"""Where our side computes; `cuda` compares a GPU's arithmetic."""

Limits = dict[str, float]
Tolerance = Limits | Callable[[Array], Limits]

# What two implementations in float32 can agree on.
FORWARD: Limits = {"rtol": 1e-5, "atol": 1e-5}
GRADIENT: Limits = {"rtol": 1e-4, "atol": 1e-5}
WEIGHT: Limits = {"rtol": 0.0, "atol": 2e-6}
OF_SCALE = 2e-6
"""Absolute tolerance of every entry as a share of the largest magnitude in its array: rounding of sums."""


def image_gradient(expected: Array) -> Limits:
    """As GRADIENT, but the absolute tolerance is that share of a typical entry where entries are large.

    The gradients of image networks are sums of thousands of terms of changing sign, so that small entries among large
    ones are rounding. The reference's own numbers differ from the same sums in float64 by as much as ours do: in file
    09c by up to 2e-3, in tensors whose entries reach 160.
    """
    typical = float(np.sqrt(np.square(expected, dtype=np.float64).mean()))
    return GRADIENT | {"atol": max(GRADIENT["atol"], GRADIENT["rtol"] * typical)}


def tensor(array: Array, grad: bool = False) -> Tensor:
    """A copy of the array on the device; `grad` makes it a leaf that collects gradients."""
    return torch.tensor(array, device=DEVICE).requires_grad_(grad)


def time_major(array: Array) -> Array:
    """[B, T, ...] to [T, B, ...], or back."""
    return array.swapaxes(0, 1)


def close(actual: Tensor | Array | float, expected: Array, tolerance: Tolerance, what: str = "") -> None:
    """Assert that shapes are equal and values agree, each on its own scale or on that of its array."""
    limits = tolerance(expected) if callable(tolerance) else tolerance
    values = actual.detach().cpu().numpy() if isinstance(actual, Tensor) else np.asarray(actual)
    assert values.shape == expected.shape, f"{what}: shape {values.shape}, expected {expected.shape}"
    assert np.isfinite(expected).all(), f"{what}: the expected values are not finite"
    scale = float(np.abs(np.asarray(expected, np.float64)).max(initial=0))
    limits = limits | {"atol": max(limits["atol"], OF_SCALE * scale)}
    np.testing.assert_allclose(values, expected, err_msg=what, **limits)


def group(golden: Golden, prefix: str) -> Golden:
    """All arrays whose name starts with `prefix`, under the rest of their names."""
    found = {name.removeprefix(prefix): array for name, array in golden.items() if name.startswith(prefix)}
    assert found, f"the file has no array {prefix}..."
    return found


def stats_of(golden: Golden, prefix: str) -> Array:
    """Statistics of a stored state, as `latents.py` lays them out: logits, or means and standard deviations."""
    if f"{prefix}logit" in golden:
        return golden[f"{prefix}logit"]
    return np.stack([golden[f"{prefix}mean"], golden[f"{prefix}std"]], -2)


def stoch_of(golden: Golden, prefix: str) -> Array:
    """A stored sample, flattened as ours are."""
    stats, stoch = stats_of(golden, prefix), golden[f"{prefix}stoch"]
    return stoch.reshape(*stats.shape[:-2], -1)


def stored_state(golden: Golden, prefix: str) -> State:
    """A stored state, its axes in the stored order."""
    parts = golden[f"{prefix}deter"], stoch_of(golden, prefix), stats_of(golden, prefix)
    return State(*(tensor(part) for part in parts))


def close_state(actual: State, golden: Golden, prefix: str) -> None:
    """Compare every part of a state whose axes are in the stored order."""
    close(actual.deter, golden[f"{prefix}deter"], FORWARD, f"{prefix}deter")
    close(actual.stats, stats_of(golden, prefix), FORWARD, f"{prefix}stats")
    close(actual.stoch, stoch_of(golden, prefix), FORWARD, f"{prefix}stoch")


def swap(state: State) -> State:
    """Exchange time and batch of a state."""
    return state.map(lambda part: part.swapaxes(0, 1))


def leaf_gradients(loss: Tensor, leaves: Iterable[Tensor]) -> list[Tensor]:
    """Gradients of a loss; zeros for tensors that it does not depend on."""
    leaves = list(leaves)
    found = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, found, strict=True)]


def named_gradients(loss: Tensor, module: nn.Module) -> dict[str, Tensor]:
    """Gradients with respect to all parameters that are trained, by name."""
    named = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    return dict(zip(named, leaf_gradients(loss, named.values()), strict=True))


def categorical_noise(logits: Array, one_hot: Array) -> Tensor:
    """Uniform noise [...] that makes a categorical draw what is stored: the middle of the class's interval."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    upper = np.cumsum(weights / weights.sum(-1, keepdims=True), -1)
    index = one_hot.argmax(-1)[..., None]
    above = np.take_along_axis(upper, index, -1)[..., 0]
    below = np.where(index[..., 0] > 0, np.take_along_axis(upper, np.maximum(index - 1, 0), -1)[..., 0], 0)
    return tensor(((above + below) / 2).astype(np.float32))

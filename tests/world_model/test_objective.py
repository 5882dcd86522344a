"""The article's split objective, which the reference does not have: against sums written out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie.world_model.latents import Binary, Categorical, Gaussian, LatentKind
from reverie.world_model.objective import balanced_kl, split_kl

ETA_T, ETA_Q = 0.08, 0.02
Array = np.ndarray[Any, Any]


def categorical(q: Array, p: Array) -> tuple[Array, Array]:
    """Cross entropy and entropy from logits [N, S, K]."""
    q, p = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (q, p))
    return -(q * np.log(p)).sum((-2, -1)), -(q * np.log(q)).sum((-2, -1))


def binary(q: Array, p: Array) -> tuple[Array, Array]:
    """The same from logits [N, 1, S]."""
    q, p = (1 / (1 + np.exp(-x[:, 0])) for x in (q, p))
    cross = -(q * np.log(p) + (1 - q) * np.log(1 - p)).sum(-1)
    return cross, -(q * np.log(q) + (1 - q) * np.log(1 - q)).sum(-1)


def gaussian(q: Array, p: Array) -> tuple[Array, Array]:
    """The same from mean and deviation [N, 2, S]: E_q of -log p, and log of e's power."""
    (mean, std), (other, scale) = (x.swapaxes(0, 1) for x in (q, p))
    cross = 0.5 * np.log(2 * math.pi * scale**2) + (std**2 + (mean - other) ** 2) / (2 * scale**2)
    return cross.sum(-1), 0.5 * np.log(2 * math.pi * math.e * std**2).sum(-1)


def stats(shape: tuple[int, ...], seed: int, positive: bool = False) -> Tensor:
    values = torch.randn((5, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if positive:
        values[:, 1] = values[:, 1].exp()
    return values.requires_grad_()


KINDS = {
    "categorical": (Categorical(3, 4), categorical),
    "binary": (Binary(6), binary),
    "gaussian": (Gaussian(3, "sigmoid2", 0.1), gaussian),
}


@pytest.mark.parametrize("name", KINDS)
def test_split_is_the_articles_formula(name: str) -> None:
    kind, reference = KINDS[name]
    q, p = (stats(kind.stats_shape, seed, name == "gaussian") for seed in (0, 1))
    loss, value = split_kl(kind, q, p, transition=ETA_T, entropy=ETA_Q)
    cross, entropy = reference(q.detach().numpy(), p.detach().numpy())
    assert loss.item() == pytest.approx((ETA_T * cross - ETA_Q * entropy).mean())
    np.testing.assert_allclose(value.detach().numpy(), cross - entropy)

    def split(q: Tensor, p: Tensor) -> Tensor:
        return split_kl(kind, q, p, transition=ETA_T, entropy=ETA_Q)[0]

    assert torch.autograd.gradcheck(split, (q, p))


def gradients(kind: LatentKind, form: str, q: Tensor, p: Tensor) -> tuple[Tensor, ...]:
    if form == "split":
        loss, _ = split_kl(kind, q, p, transition=ETA_T, entropy=ETA_Q)
    else:
        loss = 0.1 * balanced_kl(kind, q, p, balance=0.8, free_nats=0.0)[0]
    return torch.autograd.grad(loss, (q, p))


@pytest.mark.parametrize("name", KINDS)
def test_split_moves_the_prior_as_balancing_does_and_the_posterior_more(name: str) -> None:
    """0.08 = 0.1 * 0.8 and 0.02 = 0.1 * 0.2, but the cross entropy moves the posterior with 0.08 instead of 0.02."""
    kind, _ = KINDS[name]
    q, p = (stats(kind.stats_shape, seed, name == "gaussian") for seed in (0, 1))
    (q_split, p_split), (q_balanced, p_balanced) = (gradients(kind, form, q, p) for form in ("split", "balanced"))
    torch.testing.assert_close(p_split, p_balanced)
    cross = (kind.kl(q, p.detach()) + kind.entropy(q)).mean()
    (extra,) = torch.autograd.grad(0.06 * cross, q)
    torch.testing.assert_close(q_split, q_balanced + extra)


def test_equal_weights_are_the_plain_kl() -> None:
    kind = Categorical(3, 4)
    q, p = (stats((3, 4), seed) for seed in (0, 1))
    loss, _ = split_kl(kind, q, p, transition=0.3, entropy=0.3)
    assert loss.item() == pytest.approx(0.3 * kind.kl(q, p).mean().item())


def test_alone_the_split_objective_ends_in_certainty() -> None:
    """What docs/variants.md says: with nothing else to say, prior and posterior agree, and on a single state."""
    kind = Categorical(3, 4)
    q, p = (stats((3, 4), seed).detach().clone().requires_grad_() for seed in (0, 1))
    optimizer = torch.optim.Adam([q, p], 0.05)
    for _ in range(600):
        optimizer.zero_grad()
        split_kl(kind, q, p, transition=ETA_T, entropy=ETA_Q)[0].backward()
        optimizer.step()
    assert kind.kl(q, p).max() < 0.05
    assert kind.entropy(q).max() < 0.3

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


@pytest.mark.parametrize(("free_nats", "mean", "steps"), [(0.0, True, True), (1.2, True, True), (9.0, False, False)])
@pytest.mark.parametrize("balance", [0.5, 0.501, 0.8])
def test_balanced_kl_free_average_clips_the_mean_at_every_balance(
    balance: float, free_nats: float, mean: bool, steps: bool
) -> None:
    """`free_average` compares the mean with the free nats, its absence each step; NumPy says which side is clipped."""
    kind = Categorical(3, 4)
    q, p = (stats((3, 4), seed) for seed in (0, 1))
    values = kind.kl(q, p).detach().numpy()
    assert (values.mean() > free_nats, (values > free_nats).any()) == (mean, steps)
    assert free_nats != 1.2 or (values < free_nats).any()  # where the two rules differ
    for average, expected in ((True, max(values.mean(), free_nats)), (False, np.maximum(values, free_nats).mean())):
        loss, _ = balanced_kl(kind, q, p, balance=balance, free_nats=free_nats, free_average=average)
        assert loss.item() == pytest.approx(expected)
        moved = torch.autograd.grad(loss, (q, p))
        open_steps = np.full(5, mean) if average else values > free_nats
        for gradient in moved:
            assert (gradient.abs().sum((-2, -1)) > 0).tolist() == open_steps.tolist()


def test_balanced_kl_at_half_is_twice_its_neighbours_unless_at_equal_scale() -> None:
    kind = Categorical(3, 4)
    q, p = (stats((3, 4), seed) for seed in (0, 1))
    plain = torch.autograd.grad(kind.kl(q, p).mean(), (q, p))

    def ratios(balance: float, **more: bool) -> list[float]:
        loss, _ = balanced_kl(kind, q, p, balance=balance, free_nats=0.0, **more)
        moved = torch.autograd.grad(loss, (q, p))
        return [(mine.norm() / whole.norm()).item() for mine, whole in zip(moved, plain, strict=True)]

    assert ratios(0.8) == pytest.approx([0.2, 0.8])
    assert ratios(0.5) == pytest.approx([1, 1])
    assert ratios(0.501) == pytest.approx([0.499, 0.501])
    assert ratios(0.5, equal_scale=True) == pytest.approx([0.5, 0.5])
    assert ratios(0.8, equal_scale=True) == pytest.approx([0.2, 0.8])


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

"""The KL term of the world model's objective."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.networks.scalars import Scalar
from reverie.world_model.latents import LatentKind


def balanced_kl(
    latents: LatentKind,
    posterior: Tensor,
    prior: Tensor,
    *,
    balance: float,
    free_nats: Scalar,
    free_average: bool = True,
    equal_scale: bool = False,
    forward: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, "*N"]]:
    """KL balancing: train the prior towards the posterior faster than the reverse (paper, eq. 2; SPEC 20).

        loss = alpha * max(KL(sg(q) || p), free) + (1 - alpha) * max(KL(q || sg(p)), free)

    At exactly alpha = 0.5 the release takes the plain KL instead, max(KL(q || p), free): its value is the same, and its
    gradient twice as large.

    Args:
        latents: the kind of state whose statistics follow.
        posterior: statistics of q, [..., *stats_shape].
        prior: statistics of p.
        balance: alpha.
        free_nats: KL below this costs nothing, and moves neither side.
        free_average: compare the mean over all steps with `free_nats`, instead of each step. At alpha = 0.5 the release
            compares each step whatever its own setting says.
        equal_scale: the equation at alpha = 0.5, too.
        forward: KL(p || q) in place of KL(q || p), with alpha on the other term.

    Returns:
        The loss in nats, and the KL of each step.
    """
    left, right = (prior, posterior) if forward else (posterior, prior)
    mix = balance if forward else 1 - balance
    shares = (1.0, 1.0) if balance == 0.5 and not equal_scale else (mix, 1 - mix)
    # Both terms have one value; they differ in whom they move, and by how much.
    scaled: Any = _ScaledGradient.apply
    value = latents.kl(scaled(left, shares[0]), scaled(right, shares[1]))
    loss = value.mean().clamp(min=free_nats) if free_average else value.clamp(min=free_nats).mean()
    return loss, value


def split_kl(
    latents: LatentKind, posterior: Tensor, prior: Tensor, *, transition: Scalar, entropy: Scalar
) -> tuple[Float[Tensor, ""], Float[Tensor, "*N"]]:
    """The KL's two parts, each with its own weight (article, world model loss).

        loss = eta_t CE(q, p) - eta_q H(q),    CE(q, p) = -E_q log p = KL(q || p) + H(q)

    As the article writes it, the cross entropy moves both distributions. Where the prior fits exactly, the loss is
    (eta_t - eta_q) H(q): with eta_t above eta_q it falls as the posterior becomes certain of whatever it says, and what
    it says is up to the other terms of the objective (docs/variants.md).

    Args:
        latents: the kind of state whose statistics follow.
        posterior: statistics of q, [..., *stats_shape].
        prior: statistics of p.
        transition: eta_t.
        entropy: eta_q.

    Returns:
        The loss, and the KL of each step in nats.
    """
    kl, uncertainty = latents.kl(posterior, prior), latents.entropy(posterior)
    return (transition * (kl + uncertainty) - entropy * uncertainty).mean(), kl


class _ScaledGradient(torch.autograd.Function):
    """The same values, with a gradient `scale` times as large."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        """Give x as it is."""
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Scale the gradient."""
        return ctx.scale * grad, None


def transform_reward(reward: Tensor, name: str) -> Tensor:
    """What the reward head learns in place of the raw reward (SPEC 3)."""
    if name == "identity":
        return reward
    return torch.tanh(reward) if name == "tanh" else torch.sign(reward)

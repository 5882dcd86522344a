"""What the latent variables carry: KL, entropy, classes, and information about what was seen."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.dreamer.latents import Categorical
from reverie.dreamer.latents import Latents as LatentKind

UNUSED_KL = 0.01
"""Nats of KL below which a variable says nothing that the prior does not say: a hundredth of 1.4 bits."""
UNUSED_CLASS = 0.1
"""A class is unused if its mean probability is below this share of 1/K, what it would have if all were used alike."""
NORMAL_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
"""Of a standard normal, in nats."""


@dataclass(frozen=True)
class Latents:
    """Statistics of the posterior and the prior over all steps that were looked at; nats throughout."""

    variables: int
    """S."""
    classes: int | None
    """K; None for kinds without classes."""
    kl: float
    """Mean of KL(posterior || prior), summed over the variables."""
    kl_per_variable: list[float]
    """[S], most first; they add up to `kl`."""
    unused_variables: int
    """How many of them have a KL below `UNUSED_KL`."""
    posterior_entropy: float
    """Mean, summed over the variables; differential for kinds without classes."""
    prior_entropy: float
    max_entropy: float | None
    """S * log K; None for kinds without classes, whose entropy has no bounds."""
    posterior_entropy_share: float | None
    """`posterior_entropy` / `max_entropy`."""
    prior_entropy_share: float | None
    information: float
    """Sum over the variables of I(s; what led to it), see `information`; an upper bound for Gaussians."""
    informationless_variables: int
    """Variables whose information is below `UNUSED_KL`: their posterior is the same whatever is seen."""
    usage: list[list[float]] | None
    """[S, K], mean posterior probability of each class; variables as in `kl_per_variable`, most used class first."""
    unused_classes: int | None
    """Of S * K: mean posterior probability below `UNUSED_CLASS` / K."""
    never_likeliest: int | None
    """Of S * K: never the most likely class of its variable."""


def class_probabilities(kind: LatentKind, stats: Tensor) -> Float[Tensor, "*N S K"] | None:
    """Probabilities of each variable's classes, or None for a kind that has none.

    Args:
        kind: categoricals have logits [S, K]; statistics [1, S] of samples of S entries are logits of binary variables.
        stats: [..., *kind.stats_shape].
    """
    if isinstance(kind, Categorical):
        return stats.softmax(-1)
    if kind.stats_shape == (1, kind.size):
        on = stats.squeeze(-2).sigmoid()
        return torch.stack([1 - on, on], -1)
    return None


def one_by_one(kind: LatentKind, stats: Tensor) -> Tensor:
    """Statistics with the variables as a batch axis, so that `kind.kl` and `kind.entropy` give [..., S].

    [..., S, K] of categoricals becomes [..., S, 1, K]; [..., P, S] of other kinds becomes [..., S, P, 1].
    """
    return stats.unsqueeze(-2) if isinstance(kind, Categorical) else stats.transpose(-1, -2).unsqueeze(-1)


def information(kind: LatentKind, posterior: Tensor) -> Float[Tensor, "S"]:
    """Mutual information in nats between each variable and the step it belongs to.

        I(s_i; t) = H(mean_t q_i(. | t)) - mean_t H(q_i(. | t))

    For Gaussians the first term is that of the normal with the mixture's variance, which is never smaller.

    Args:
        kind: of the latents.
        posterior: statistics [N, *stats_shape] of N steps. An estimate cannot exceed log N.
    """
    own = kind.entropy(one_by_one(kind, posterior)).mean(0)
    probabilities = class_probabilities(kind, posterior)
    if probabilities is not None:
        mean = probabilities.mean(0)
        return (-torch.xlogy(mean, mean).sum(-1) - own).clamp(min=0)
    mean, std = posterior.unbind(-2)
    variance = std.square().mean(0) + mean.var(0, correction=0)
    return (NORMAL_ENTROPY + 0.5 * variance.log() - own).clamp(min=0)


def measure_latents(kind: LatentKind, posterior: Tensor, prior: Tensor) -> Latents:
    """All of `Latents`.

        KL_i = mean_t KL(q_i(. | t) || p_i(. | t)),   H = mean_t sum_i H(q_i(. | t))

    Args:
        kind: of the latents.
        posterior: statistics [N, *stats_shape] of q at N steps.
        prior: those of p at the same steps.
    """
    per_variable = kind.kl(one_by_one(kind, posterior), one_by_one(kind, prior)).mean(0)
    order = per_variable.argsort(descending=True)
    known = information(kind, posterior)
    entropies = [kind.entropy(stats).mean().item() for stats in (posterior, prior)]
    probabilities = class_probabilities(kind, posterior)
    usage = unused = never = limit = classes = None
    if probabilities is not None:
        classes = probabilities.shape[-1]
        mean = probabilities.mean(0)
        likeliest = torch.zeros_like(mean).index_put_(
            (torch.arange(len(mean), device=mean.device).expand(len(probabilities), -1), probabilities.argmax(-1)),
            torch.ones((), device=mean.device),
        )
        usage = mean[order].sort(-1, descending=True).values.tolist()
        unused = int((mean < UNUSED_CLASS / classes).sum())
        never = int((likeliest == 0).sum())
        limit = len(mean) * math.log(classes)
    return Latents(
        variables=len(per_variable),
        classes=classes,
        kl=per_variable.sum().item(),
        kl_per_variable=per_variable[order].tolist(),
        unused_variables=int((per_variable < UNUSED_KL).sum()),
        posterior_entropy=entropies[0],
        prior_entropy=entropies[1],
        max_entropy=limit,
        posterior_entropy_share=entropies[0] / limit if limit else None,
        prior_entropy_share=entropies[1] / limit if limit else None,
        information=known.sum().item(),
        informationless_variables=int((known < UNUSED_KL).sum()),
        usage=usage,
        unused_classes=unused,
        never_likeliest=never,
    )

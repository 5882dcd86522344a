"""Information in the latent variables: KL, entropy, use of classes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.analysis.format import Measures
from reverie.dreamer.latents import Categorical, Latents

UNUSED_KL = 0.01  # nats of KL below which a variable adds nothing to the prior: a hundredth of 1.4 bits
UNUSED_CLASS = 0.1  # share of 1/K, the mean probability of equally used classes, below which a class is unused
NORMAL_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)


def class_probabilities(kind: Latents, stats: Tensor) -> Float[Tensor, "*N S K"] | None:
    """Return the class probabilities of each variable, or None for a kind without classes.

    Categoricals have logits [S, K]; statistics [1, S] of samples of S entries are logits of binary variables.
    """
    if isinstance(kind, Categorical):
        return stats.softmax(-1)
    if kind.stats_shape == (1, kind.size):
        on = stats.squeeze(-2).sigmoid()
        return torch.stack([1 - on, on], -1)
    return None


def one_by_one(kind: Latents, stats: Tensor) -> Tensor:
    """Return statistics with the variables as a batch axis, so that `kind.kl` and `kind.entropy` give [..., S].

    [..., S, K] of categoricals becomes [..., S, 1, K]; [..., P, S] of other kinds becomes [..., S, P, 1].
    """
    return stats.unsqueeze(-2) if isinstance(kind, Categorical) else stats.transpose(-1, -2).unsqueeze(-1)


def information(kind: Latents, posterior: Tensor) -> Float[Tensor, "S"]:
    """Return the mutual information between each variable and its step, in nats.

        I(s_i; t) = H(mean_t q_i(. | t)) - mean_t H(q_i(. | t))

    For Gaussians the first term is that of the normal with the mixture's variance, which is never smaller. An estimate
    from statistics of N steps cannot exceed log N.
    """
    own = kind.entropy(one_by_one(kind, posterior)).mean(0)
    probabilities = class_probabilities(kind, posterior)
    if probabilities is not None:
        mean = probabilities.mean(0)
        return (-torch.xlogy(mean, mean).sum(-1) - own).clamp(min=0)
    mean, std = posterior.unbind(-2)
    variance = std.square().mean(0) + mean.var(0, correction=0)
    return (NORMAL_ENTROPY + 0.5 * variance.log() - own).clamp(min=0)


def measure_latents(kind: Latents, posterior: Tensor, prior: Tensor) -> Measures:
    """Measure posterior q and prior p, whose statistics are [N, *stats_shape], at the same N steps.

    KL_i = mean_t KL(q_i(. | t) || p_i(. | t)),   H = mean_t sum_i H(q_i(. | t))
    """
    per_variable = kind.kl(one_by_one(kind, posterior), one_by_one(kind, prior)).mean(0)
    order = per_variable.argsort(descending=True)
    known = information(kind, posterior)
    entropy, prior_entropy = (kind.entropy(stats).mean().item() for stats in (posterior, prior))
    probabilities = class_probabilities(kind, posterior)
    usage = unused = never = limit = classes = None
    if probabilities is not None:
        variables, classes = probabilities.shape[-2:]
        mean, likeliest = probabilities.mean(0), probabilities.argmax(-1)
        usage = mean[order].sort(-1, descending=True).values.tolist()
        unused = int((mean < UNUSED_CLASS / classes).sum())
        never = variables * classes - sum(len(likeliest[:, i].unique()) for i in range(variables))
        limit = variables * math.log(classes)
    return Measures(
        variables=len(per_variable),  # S
        classes=classes,  # K; None for kinds without classes, like all that follows from it
        kl=per_variable.sum().item(),  # nats, like entropies and information
        kl_per_variable=per_variable[order].tolist(),  # [S], largest first
        unused_variables=int((per_variable < UNUSED_KL).sum()),
        posterior_entropy=entropy,  # differential for kinds without classes, and then without bounds
        prior_entropy=prior_entropy,
        max_entropy=limit,  # S log K
        posterior_entropy_share=entropy / limit if limit else None,
        prior_entropy_share=prior_entropy / limit if limit else None,
        information=known.sum().item(),  # an upper bound for Gaussians
        informationless_variables=int((known < UNUSED_KL).sum()),
        usage=usage,  # [S, K] mean probability; rows as in kl_per_variable, most used class first
        unused_classes=unused,  # of S K
        never_likeliest=never,  # of S K: never the most likely class of its variable
    )

"""Information of latents, calibration of rewards, discounts and values, and the actor's choices; nan is unknown."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.analysis.format import Measures
from reverie.dreamer.distributions import ActionDistribution, OneHot, TanhNormal, TruncatedNormal
from reverie.dreamer.latents import Categorical, Latents

UNUSED_KL = 0.01  # nats of KL below which a variable adds nothing to the prior: a hundredth of 1.4 bits
UNUSED_CLASS = 0.1  # share of 1/K, the mean probability of equally used classes, below which a class is unused
NORMAL_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
BINS = 10  # equally wide bins of the reliability curve of rewards
END_EDGES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)  # of predicted ends, most of which lie near zero
ZERO = 1e-6  # size below which a reward counts as zero
CERTAIN = 0.95  # probability of an action, or size of a continuous one, from which it counts as certain or saturated


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
    entropy, prior_entropy = (kind.entropy(stats).mean().item() for stats in (posterior, prior))
    found = Measures(
        variables=len(per_variable),  # S
        classes=0,  # K; 0 for kinds without classes, whose measures of classes are nan
        kl=per_variable.sum().item(),  # nats, like entropies and information
        kl_per_variable=per_variable.sort(descending=True).values.tolist(),  # [S]
        unused_variables=int((per_variable < UNUSED_KL).sum()),
        posterior_entropy=entropy,  # differential for kinds without classes, and then without bounds
        prior_entropy=prior_entropy,
        max_entropy=math.nan,  # S log K
        posterior_entropy_share=math.nan,
        prior_entropy_share=math.nan,
        information=information(kind, posterior).sum().item(),  # an upper bound for Gaussians
        unused_classes=math.nan,  # of S K
    )
    probabilities = class_probabilities(kind, posterior)
    if probabilities is not None:
        variables, found.classes = probabilities.shape[-2:]
        found.unused_classes = int((probabilities.mean(0) < UNUSED_CLASS / found.classes).sum())
        found.max_entropy = variables * math.log(found.classes)
        found.posterior_entropy_share = entropy / found.max_entropy
        found.prior_entropy_share = prior_entropy / found.max_entropy
    return found


class Bin(NamedTuple):
    """Steps with similar predictions: mean prediction and mean outcome, equal for a calibrated head."""

    predicted: float
    actual: float
    steps: int


def reliability(
    predicted: Float[Tensor, "N"], actual: Float[Tensor, "N"], edges: Sequence[float] | None = None
) -> list[Bin]:
    """Return the bins of predictions that hold any steps.

    Edges rise, and values outside belong to the first or last bin; None takes `BINS` equally wide bins.
    """
    if edges is None:
        low, high = predicted.min().item(), predicted.max().item()
        inner = torch.linspace(low, high, BINS + 1)[1:-1] if high > low else torch.empty(0)
    else:
        inner = torch.tensor(edges[1:-1])
    number = torch.bucketize(predicted.contiguous(), inner.to(predicted), right=True)
    members = (number == index for index in range(len(inner) + 1))
    return [_bin(predicted, actual, there) for there in members if there.any()]


def _bin(predicted: Tensor, actual: Tensor, there: Tensor) -> Bin:
    return Bin(predicted[there].mean().item(), actual[there].mean().item(), int(there.sum()))


def correlation(x: Float[Tensor, "N"], y: Float[Tensor, "N"]) -> float:
    """Return Pearson's correlation; nan if one of both is constant."""
    a, b = (value.double() - value.double().mean() for value in (x, y))
    scale = (a.square().mean() * b.square().mean()).sqrt()
    return (a * b).mean().div(scale).item() if scale > 1e-12 else math.nan


def explained_variance(predicted: Float[Tensor, "N"], actual: Float[Tensor, "N"]) -> float:
    """Return 1 - Var(actual - predicted) / Var(actual), which ignores an offset; nan if `actual` is constant."""
    variance = actual.double().var(correction=0)
    return (1 - (actual - predicted).double().var(correction=0) / variance).item() if variance > 1e-12 else math.nan


def measure_rewards(predicted: Float[Tensor, "N"], actual: Float[Tensor, "N"]) -> Measures:
    """Compare modes of the reward head in posterior states with the transformed rewards received on arriving there."""
    signs = {"zero": actual.abs() <= ZERO, "positive": actual > ZERO, "negative": actual < -ZERO}
    variance = actual.double().var(correction=0).item()
    error = (actual - predicted).double().square().mean().item()
    return Measures(
        mean=actual.mean().item(),
        predicted_mean=predicted.mean().item(),
        correlation=correlation(predicted, actual),
        explained=1 - error / variance if variance > 1e-12 else math.nan,
        events=int((~signs["zero"]).sum()),  # steps with a reward
        groups={name: _bin(predicted, actual, there) for name, there in signs.items() if there.any()},
        bins=reliability(predicted, actual),
    )


def measure_discounts(
    predicted: Float[Tensor, "N"], terminal: Bool[Tensor, "N"], at_ends: Float[Tensor, "E"], gamma: float
) -> Measures:
    """Measure means of the discount head, whose label is gamma * (1 - is_terminal).

        p_end = 1 - discount / gamma,   clamped to [0, 1]

    They are of N posterior states that were drawn uniformly, and of E further terminal states.
    """
    ending = (1 - predicted / gamma).clamp(0, 1)
    on_terminal = torch.cat([predicted[terminal], at_ends])
    return Measures(
        gamma=gamma,
        on_going=predicted[~terminal].mean().item(),  # gamma is right
        on_terminal=on_terminal.mean().item(),  # 0 is right
        terminals=len(on_terminal),  # steps behind on_terminal, ends that were drawn on purpose included
        end_rate=terminal.float().mean().item(),
        predicted_end_rate=ending.mean().item(),
        bins=reliability(ending, terminal.float(), END_EDGES),
    )


def replay_returns(
    reward: Float[Tensor, "T B"],
    value: Float[Tensor, "T B"],
    discount: Float[Tensor, "T B"],
    is_last: Bool[Tensor, "T B"],
) -> Float[Tensor, "T B"]:
    """Return the discounted return of the replay, from each step to the end of its episode or of the window.

        G_t = r_t + g_t * G_{t+1},   G_t = r_t where g_t = 0,   G_t = v_t at the window's end and at a truncation

    As in training, r_t was received on arriving in step t and belongs to its return (SPEC 2, 27, 28), rewards are
    transformed and normalised, and g_t = gamma * (1 - is_terminal): a last step with a discount above 0 was truncated.
    """
    cut = is_last & (discount > 0)
    last = torch.where(discount[-1] > 0, value[-1], reward[-1])
    returns = [last]
    for t in range(reward.shape[0] - 2, -1, -1):
        last = torch.where(cut[t], value[t], reward[t] + discount[t] * last)
        returns.append(last)
    return torch.stack(returns[::-1])


def compare(value: Float[Tensor, "T B"], returns: Float[Tensor, "T B"]) -> Measures:
    """Compare the critic's values with one kind of return; sequences are the columns."""
    bias = (value - returns).double()
    columns = bias.mean(0)
    flat = value.flatten(), returns.flatten()
    return Measures(
        value=value.mean().item(),
        returns=returns.mean().item(),
        bias=bias.mean().item(),  # value - returns
        # Standard error over sequences, whose states are correlated; infinite for a single sequence.
        bias_error=columns.std().item() / len(columns) ** 0.5 if len(columns) > 1 else math.inf,
        spread=returns.std().item() if returns.numel() > 1 else 0.0,
        correlation=correlation(*flat),
        explained=explained_variance(*flat),
        states=value.numel(),
    )


def measure_policy(policy: ActionDistribution) -> Measures:
    """Measure the actor's distribution in N states; its tensors are [N, A].

    share = mean_t H(pi(. | z_t)) / sum log |A|,   dependence = H(mean_t pi(. | z_t)) - mean_t H(pi(. | z_t))
    """
    entropy = policy.entropy().mean().item()  # nats, summed over the action's parts; differential if continuous
    if not isinstance(policy, OneHot):
        modes = policy.mode()
        scale = policy.scale.mean(0).tolist() if isinstance(policy, TruncatedNormal | TanhNormal) else None
        return Measures(
            kind="continuous",
            entropy=entropy,
            max_entropy=modes.shape[-1] * math.log(2),  # of uniform values in [-1, 1]
            certain=(modes.abs() > CERTAIN).float().mean().item(),  # share of values at an end of their range
            mode=modes.mean(0).tolist(),  # mean of each value
            scale=scale,  # mean standard deviation of each value, before it is cut off or squashed
        )
    probabilities = [part.softmax(-1) for part in policy.parts]
    means = [part.mean(0) for part in probabilities]
    most = sum(map(math.log, policy.sizes))
    return Measures(
        kind="discrete",
        entropy=entropy,
        max_entropy=most,  # of uniform actions
        entropy_share=entropy / most if most else math.nan,
        certain=torch.stack([part.amax(-1) > CERTAIN for part in probabilities]).all(0).float().mean().item(),
        dependence=max(sum(-torch.xlogy(mean, mean).sum().item() for mean in means) - entropy, 0.0),  # nats
        favourite=int(means[0].argmax()),
        favourite_share=means[0].max().item(),  # its mean probability
        actions=[mean.tolist() for mean in means],  # by categorical: mean probability of each action
    )

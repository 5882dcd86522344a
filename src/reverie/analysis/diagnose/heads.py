"""Calibration of the reward and discount heads, the critic's values beside returns, and the actor's choices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.analysis.format import Measures
from reverie.dreamer.distributions import ActionDistribution, OneHot, TanhNormal, TruncatedNormal

BINS = 10  # equally wide bins of the reliability curve of rewards
END_EDGES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Bin edges of the predicted probability of an end: ends are rare, so most of it lies near zero."""
ZERO = 1e-6  # size below which a reward counts as zero
CERTAIN = 0.95
"""Probability above which an action counts as the only one; size above which a continuous one counts as saturated."""


@dataclass(frozen=True)
class Bin:
    """Steps with similar predictions: mean prediction and mean outcome, equal for a calibrated head."""

    predicted: float
    actual: float
    count: int


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


def correlation(x: Float[Tensor, "N"], y: Float[Tensor, "N"]) -> float | None:
    """Return Pearson's correlation; None if one of both is constant."""
    a, b = (value.double() - value.double().mean() for value in (x, y))
    scale = (a.square().mean() * b.square().mean()).sqrt()
    return (a * b).mean().div(scale).item() if scale > 1e-12 else None


def explained_variance(predicted: Float[Tensor, "N"], actual: Float[Tensor, "N"]) -> float | None:
    """Return 1 - Var(actual - predicted) / Var(actual), which ignores an offset; None if `actual` is constant."""
    variance = actual.double().var(correction=0)
    return (1 - (actual - predicted).double().var(correction=0) / variance).item() if variance > 1e-12 else None


def measure_rewards(predicted: Float[Tensor, "N"], actual: Float[Tensor, "N"]) -> Measures:
    """Compare modes of the reward head in posterior states with the transformed rewards received on arriving there."""
    signs = {"zero": actual.abs() <= ZERO, "positive": actual > ZERO, "negative": actual < -ZERO}
    variance = actual.double().var(correction=0).item()
    error = (actual - predicted).double().square().mean().item()
    return Measures(
        mean=actual.mean().item(),
        predicted_mean=predicted.mean().item(),
        correlation=correlation(predicted, actual),  # None if one of them is constant
        explained=1 - error / variance if variance > 1e-12 else None,
        groups={name: _bin(predicted, actual, there) for name, there in signs.items() if there.any()},
        bins=reliability(predicted, actual),
    )


def recall(rewards: Measures, group: str) -> float | None:
    """Return the predicted share of rewards of this sign, beyond what is predicted where the reward is zero."""
    found, zero = rewards.groups.get(group), rewards.groups.get("zero")
    return None if found is None else float((found.predicted - (zero.predicted if zero else 0.0)) / found.actual)


def measure_discounts(
    predicted: Float[Tensor, "N"], terminal: Bool[Tensor, "N"], at_ends: Float[Tensor, "E"], gamma: float
) -> Measures:
    """Measure means of the discount head, whose label is gamma * (1 - is_terminal).

        p_end = 1 - discount / gamma,   clamped to [0, 1]

    They are of N posterior states that were drawn uniformly, and of E further terminal states.
    """
    ending = (1 - predicted / gamma).clamp(0, 1)
    on_terminal, going = torch.cat([predicted[terminal], at_ends]), predicted[~terminal]
    return Measures(
        gamma=gamma,
        on_going=going.mean().item() if len(going) else None,  # gamma is right
        on_terminal=on_terminal.mean().item() if len(on_terminal) else None,  # 0 is right
        terminals=len(on_terminal),  # steps behind on_terminal, ends that were drawn on purpose included
        steps=len(predicted),  # steps behind the rest, drawn uniformly
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
    entropy = policy.entropy().mean().item()
    share = actions = dependence = scale = mode = None
    if isinstance(policy, OneHot):
        probabilities = [part.softmax(-1) for part in policy.parts]
        certain = torch.stack([part.amax(-1) > CERTAIN for part in probabilities]).all(0)
        means = [part.mean(0) for part in probabilities]
        most = sum(map(math.log, policy.sizes))
        share = entropy / most if most else None
        actions = [mean.tolist() for mean in means]
        dependence = max(sum(-torch.xlogy(mean, mean).sum().item() for mean in means) - entropy, 0.0)
    else:
        modes = policy.mode()
        certain = modes.abs() > CERTAIN
        most = modes.shape[-1] * math.log(2)
        scale = policy.scale.mean(0).tolist() if isinstance(policy, TruncatedNormal | TanhNormal) else None
        mode = modes.mean(0).tolist()
    return Measures(
        kind="discrete" if isinstance(policy, OneHot) else "continuous",
        entropy=entropy,  # mean, in nats, summed over the action's parts; differential for continuous actions
        max_entropy=most,  # of uniform actions: sum of log(number of actions), or A log 2 for A values in [-1, 1]
        entropy_share=share,  # of max_entropy; None for continuous actions, whose entropy can be negative
        certain=certain.float().mean().item(),  # share of states in which every part is certain, or of values at an end
        actions=actions,  # by categorical: mean probability of each action
        dependence=dependence,  # nats: how much the action depends on the state
        scale=scale,  # continuous: mean standard deviation of each value, before it is cut off or squashed
        mode=mode,  # continuous: mean mode of each value
    )

"""Whether the reward and discount heads mean what they say."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BINS = 10
"""Of the reliability curve of rewards, equally wide."""
END_EDGES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Of the bins of the predicted probability that an episode ends: ends are rare, so most of it lies near zero."""
NOTHING = 1e-6
"""Rewards smaller than this are zero."""


@dataclass(frozen=True)
class Bin:
    """Steps whose predictions lie near each other."""

    predicted: float
    """Their mean."""
    actual: float
    """Mean of what happened; a calibrated head has both the same."""
    count: int


@dataclass(frozen=True)
class Rewards:
    """Rewards of all steps that were looked at, in the space of `reward_transform`."""

    mean: float
    predicted_mean: float
    correlation: float | None
    """Of prediction and reward; None if one of them never changes."""
    explained: float | None
    """1 - mean squared error / variance of the rewards; None if they never change."""
    groups: dict[str, Bin]
    """`zero`, `positive`, `negative`: steps by their actual reward; absent where there are none."""
    bins: list[Bin]
    """Reliability curve: steps by their prediction."""

    def foreseen(self, group: str) -> float | None:
        """Mean prediction where the reward has this sign, less that where it is zero, as a share of that reward."""
        found, zero = self.groups.get(group), self.groups.get("zero")
        return None if found is None else (found.predicted - (zero.predicted if zero else 0.0)) / found.actual


@dataclass(frozen=True)
class Discounts:
    """What the discount head predicts. Its label is soft, gamma * (1 - is_terminal): gamma and not 1 is "goes on"."""

    gamma: float
    on_going: float | None
    """Mean predicted discount in steps that are not terminal; gamma if the head is right."""
    on_terminal: float | None
    """Mean predicted discount in terminal steps; 0 if it is right. None if there are none."""
    terminals: int
    """Steps behind `on_terminal`, ends of episodes that were looked up included."""
    steps: int
    """Steps behind the rest, drawn uniformly."""
    end_rate: float
    """Share of those that are terminal."""
    predicted_end_rate: float
    """Mean of 1 - discount / gamma over them."""
    bins: list[Bin]
    """Reliability curve of 1 - discount / gamma, the probability that this step is terminal."""


def reliability(
    predicted: Float[Tensor, "N"], actual: Float[Tensor, "N"], edges: Sequence[float] | None = None
) -> list[Bin]:
    """Mean prediction and mean outcome of the steps in each bin of predictions; empty bins are left out.

    Args:
        predicted: numbers.
        actual: what they predict.
        edges: of the bins, rising; values outside belong to the first or last bin. None takes `BINS` equally wide
            ones from the least to the greatest prediction.
    """
    if edges is None:
        low, high = predicted.min().item(), predicted.max().item()
        inner = torch.linspace(low, high, BINS + 1)[1:-1] if high > low else torch.empty(0)
    else:
        inner = torch.tensor(edges[1:-1])
    number = torch.bucketize(predicted.contiguous(), inner.to(predicted), right=True)
    bins = []
    for index in range(len(inner) + 1):
        there = number == index
        if there.any():
            bins.append(Bin(predicted[there].mean().item(), actual[there].mean().item(), int(there.sum())))
    return bins


def correlation(x: Float[Tensor, "N"], y: Float[Tensor, "N"]) -> float | None:
    """Pearson's; None if one of both never changes."""
    a, b = (value.double() - value.double().mean() for value in (x, y))
    scale = (a.square().mean() * b.square().mean()).sqrt()
    return (a * b).mean().div(scale).item() if scale > 1e-12 else None


def explained_variance(predicted: Float[Tensor, "N"], actual: Float[Tensor, "N"]) -> float | None:
    """1 - Var(actual - predicted) / Var(actual): a constant offset costs nothing. None if `actual` never changes."""
    variance = actual.double().var(correction=0)
    return (1 - (actual - predicted).double().var(correction=0) / variance).item() if variance > 1e-12 else None


def measure_rewards(predicted: Float[Tensor, "N"], actual: Float[Tensor, "N"]) -> Rewards:
    """All of `Rewards`.

    Args:
        predicted: mode of the reward head in posterior states.
        actual: rewards received on arriving there, transformed.
    """
    signs = {"zero": actual.abs() <= NOTHING, "positive": actual > NOTHING, "negative": actual < -NOTHING}
    groups = {
        name: Bin(predicted[there].mean().item(), actual[there].mean().item(), int(there.sum()))
        for name, there in signs.items()
        if there.any()
    }
    variance = actual.double().var(correction=0).item()
    error = (actual - predicted).double().square().mean().item()
    return Rewards(
        mean=actual.mean().item(),
        predicted_mean=predicted.mean().item(),
        correlation=correlation(predicted, actual),
        explained=1 - error / variance if variance > 1e-12 else None,
        groups=groups,
        bins=reliability(predicted, actual),
    )


def measure_discounts(
    predicted: Float[Tensor, "N"],
    terminal: Bool[Tensor, "N"],
    at_ends: Float[Tensor, "E"],
    gamma: float,
) -> Discounts:
    """All of `Discounts`.

        p_end = 1 - discount / gamma,   clamped to [0, 1]

    Args:
        predicted: mean of the discount head in posterior states that were drawn uniformly.
        terminal: whether those states ended their episode.
        at_ends: the same prediction in further terminal states, which were looked up.
        gamma: `world_model.discount`, above 0.
    """
    ending = (1 - predicted / gamma).clamp(0, 1)
    on_terminal = torch.cat([predicted[terminal], at_ends])
    going = predicted[~terminal]
    return Discounts(
        gamma=gamma,
        on_going=going.mean().item() if len(going) else None,
        on_terminal=on_terminal.mean().item() if len(on_terminal) else None,
        terminals=len(on_terminal),
        steps=len(predicted),
        end_rate=terminal.float().mean().item(),
        predicted_end_rate=ending.mean().item(),
        bins=reliability(ending, terminal.float(), END_EDGES),
    )

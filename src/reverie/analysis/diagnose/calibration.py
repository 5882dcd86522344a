"""Calibration of the reward and discount heads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BINS = 10  # equally wide bins of the reliability curve of rewards
END_EDGES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Bin edges of the predicted probability of an end: ends are rare, so most of it lies near zero."""
ZERO = 1e-6  # size below which a reward counts as zero


@dataclass(frozen=True)
class Bin:
    """Steps with similar predictions: mean prediction and mean outcome, equal for a calibrated head."""

    predicted: float
    actual: float
    count: int


@dataclass(frozen=True)
class Rewards:
    """Rewards of all examined steps, in the space of `reward_transform`."""

    mean: float
    predicted_mean: float
    correlation: float | None  # None if one of them is constant
    explained: float | None  # 1 - mean squared error / variance; None if rewards are constant
    groups: dict[str, Bin]  # `zero`, `positive`, `negative`: steps by their actual reward, where there are any
    bins: list[Bin]  # reliability curve

    def recall(self, group: str) -> float | None:
        """Return the predicted share of rewards of this sign, beyond what is predicted where the reward is zero."""
        found, zero = self.groups.get(group), self.groups.get("zero")
        return None if found is None else (found.predicted - (zero.predicted if zero else 0.0)) / found.actual

    @property
    def num_events(self) -> int:
        """Number of steps with a reward."""
        return sum(there.count for name, there in self.groups.items() if name != "zero")


@dataclass(frozen=True)
class Discounts:
    """Predictions of the discount head. Its label is gamma * (1 - is_terminal)."""

    gamma: float
    on_going: float | None  # mean prediction in steps that are not terminal; gamma is right
    on_terminal: float | None  # mean prediction in terminal steps; 0 is right
    terminals: int  # steps behind on_terminal, ends that were drawn on purpose included
    steps: int  # steps behind the rest, drawn uniformly
    end_rate: float  # share of those that are terminal
    predicted_end_rate: float  # mean of 1 - discount / gamma over them
    bins: list[Bin]  # reliability curve of 1 - discount / gamma, the probability of an end


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


def measure_rewards(predicted: Float[Tensor, "N"], actual: Float[Tensor, "N"]) -> Rewards:
    """Compare modes of the reward head in posterior states with the transformed rewards received on arriving there."""
    signs = {"zero": actual.abs() <= ZERO, "positive": actual > ZERO, "negative": actual < -ZERO}
    variance = actual.double().var(correction=0).item()
    error = (actual - predicted).double().square().mean().item()
    return Rewards(
        mean=actual.mean().item(),
        predicted_mean=predicted.mean().item(),
        correlation=correlation(predicted, actual),
        explained=1 - error / variance if variance > 1e-12 else None,
        groups={name: _bin(predicted, actual, there) for name, there in signs.items() if there.any()},
        bins=reliability(predicted, actual),
    )


def measure_discounts(
    predicted: Float[Tensor, "N"],
    terminal: Bool[Tensor, "N"],
    at_ends: Float[Tensor, "E"],
    gamma: float,
) -> Discounts:
    """Return all of `Discounts`.

        p_end = 1 - discount / gamma,   clamped to [0, 1]

    Predictions are means of the discount head in N posterior states that were drawn uniformly, and in E further
    terminal states.
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

"""Whether the critic's values are what imagination and experience return."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.analysis.diagnose.calibration import correlation, explained_variance


@dataclass(frozen=True)
class Comparison:
    """The critic's values against one kind of return, over many states."""

    value: float
    """Mean of the critic."""
    returns: float
    """Mean of what it is compared with."""
    bias: float
    """value - returns: above 0 the critic promises too much."""
    bias_error: float
    """Standard error of `bias` over sequences, whose states resemble each other; infinite for a single sequence."""
    spread: float
    """Standard deviation of the returns: what a bias is large or small against."""
    correlation: float | None
    explained: float | None
    """1 - Var(returns - value) / Var(returns); an offset costs nothing here."""
    states: int


@dataclass(frozen=True)
class Values:
    """Both comparisons, in the space of `reward_transform`."""

    imagined: Comparison
    """With the lambda-return of the present policy in imagination, which the critic is trained on."""
    replayed: Comparison | None
    """With the discounted return of the policies that filled the replay, older and more random than the present one.
    None if no state has enough steps after it."""


def replay_returns(
    reward: Float[Tensor, "T B"],
    value: Float[Tensor, "T B"],
    discount: Float[Tensor, "T B"],
    is_last: Bool[Tensor, "T B"],
) -> Float[Tensor, "T B"]:
    """Discounted return of what happened, from each step to the end of its episode or of the window.

        G_t = r_t + g_t * G_{t+1},   G_t = r_t where g_t = 0,   G_t = v_t at the window's end and at a truncation

    As in training, r_t was received on arriving in step t and belongs to its return (SPEC 2, 27, 28).

    Args:
        reward: r_t, transformed and normalised as in training.
        value: v_t, the critic's, for where the rest is unknown.
        discount: g_t = gamma * (1 - is_terminal).
        is_last: the episode is over; with a discount above 0 it was cut off, and would have gone on.
    """
    cut = is_last & (discount > 0)
    last = torch.where(discount[-1] > 0, value[-1], reward[-1])
    returns = [last]
    for t in range(reward.shape[0] - 2, -1, -1):
        last = torch.where(cut[t], value[t], reward[t] + discount[t] * last)
        returns.append(last)
    return torch.stack(returns[::-1])


def compare(value: Float[Tensor, "T B"], returns: Float[Tensor, "T B"]) -> Comparison:
    """All of `Comparison`; sequences are the columns."""
    bias = (value - returns).double()
    columns = bias.mean(0)
    error = columns.std().item() / len(columns) ** 0.5 if len(columns) > 1 else float("inf")
    flat = value.flatten(), returns.flatten()
    return Comparison(
        value=value.mean().item(),
        returns=returns.mean().item(),
        bias=bias.mean().item(),
        bias_error=error,
        spread=returns.std().item() if returns.numel() > 1 else 0.0,
        correlation=correlation(*flat),
        explained=explained_variance(*flat),
        states=value.numel(),
    )

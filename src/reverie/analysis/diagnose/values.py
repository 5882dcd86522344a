"""The critic's values compared with the returns of imagination and of experience."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.analysis.diagnose.calibration import correlation, explained_variance


@dataclass(frozen=True)
class Comparison:
    """The critic's values compared with one kind of return, over many states."""

    value: float  # mean
    returns: float  # mean
    bias: float  # value - returns
    bias_error: float  # standard error over sequences, whose states are correlated; infinite for a single sequence
    spread: float  # standard deviation of the returns
    correlation: float | None
    explained: float | None  # 1 - Var(returns - value) / Var(returns), which ignores an offset
    states: int


@dataclass(frozen=True)
class Values:
    """Both comparisons, in the space of `reward_transform`."""

    imagined: Comparison  # with the lambda-return of the present policy, on which the critic is trained
    replayed: Comparison | None  # with the returns of older policies; None if no state has enough steps after it


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


def compare(value: Float[Tensor, "T B"], returns: Float[Tensor, "T B"]) -> Comparison:
    """Return all of `Comparison`; sequences are the columns."""
    bias = (value - returns).double()
    columns = bias.mean(0)
    flat = value.flatten(), returns.flatten()
    return Comparison(
        value=value.mean().item(),
        returns=returns.mean().item(),
        bias=bias.mean().item(),
        bias_error=columns.std().item() / len(columns) ** 0.5 if len(columns) > 1 else float("inf"),
        spread=returns.std().item() if returns.numel() > 1 else 0.0,
        correlation=correlation(*flat),
        explained=explained_variance(*flat),
        states=value.numel(),
    )

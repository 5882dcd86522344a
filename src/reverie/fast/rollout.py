"""Imagined rollouts of one-hot states and actions that nobody differentiates, on a CPU.

The same recursion as `behavior.imagination.imagine`, with samples as numbers instead of one-hot vectors: the products
with them become sums of rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reverie.fast import operations as fast
from reverie.fast.features import Features, one_hot


class Recurrence(NamedTuple):
    """The layers that take a state and an action to the next state, in the order in which they are applied."""

    input: nn.Linear
    gates: nn.Linear
    norm: nn.LayerNorm
    prior: nn.Linear
    prior_head: nn.Linear


class Policy(NamedTuple):
    """The layers of the actor."""

    hidden: Sequence[nn.Linear]
    head: nn.Linear
    sizes: tuple[int, ...]
    """Classes of each categorical action."""


def rollout(
    model: Recurrence,
    policy: Policy,
    start: Features,
    classes: int,
    horizon: int,
    latent_noise: Tensor | None,
    action_noise: Tensor | None,
) -> tuple[Features, Tensor, list[Tensor]]:
    """Imagine `horizon` steps from every start state.

    Args:
        model: the transition.
        policy: chooses actions.
        start: N states; `deter` in float32.
        classes: of each categorical variable of the state.
        horizon: H.
        latent_noise: uniform, [H, N, S]; None takes modes.
        action_noise: uniform, [H, N, V].

    Returns:
        Features [H+1, N, …] in the compute dtype; actions [H+1, N, A], where `action[t]` led into state t; and what the
        policy's hidden layers made of the first H states, [H, N, …] each.
    """
    state, dtype = start.deter, fast.compute_dtype(start.deter)
    (rollouts, variables), size, units = start.index.shape, state.shape[1], model.input.out_features
    index = torch.empty((horizon + 1, rollouts, variables), dtype=torch.int32)
    deter = torch.empty((horizon + 1, rollouts, size), dtype=dtype)
    chosen = torch.empty((horizon, rollouts, len(policy.sizes)), dtype=torch.int32)
    index[0], deter[0] = start.index, state
    joined = torch.empty((rollouts, units + size), dtype=dtype)
    """What the gates read: the input layer's result and the state."""
    by_step: list[list[Tensor]] = []
    rows = fast.table(model.input.weight, model.input.in_features, dtype)
    for t in range(horizon):
        of_policy, chosen[t] = _act(policy, index[t], deter[t], start.one_hot_size, action_noise, t)
        by_step.append(of_policy)
        inputs = torch.cat([index[t], chosen[t] + start.one_hot_size], 1)
        fast.one_hot_elu(inputs, rows, None, model.input.bias, joined)
        joined[:, units:] = deter[t]
        gates = fast.product(joined, fast.cast(model.gates.weight, dtype))
        state = fast.gru(gates, model.gates.bias, model.norm, state, deter[t + 1])
        hidden = fast.bias_elu_(fast.product(deter[t + 1], fast.cast(model.prior.weight, dtype)), model.prior.bias)
        logits = fast.product(hidden, fast.cast(model.prior_head.weight, dtype))
        noise = None if latent_noise is None else latent_noise[t]
        fast.sample_one_hot(logits, model.prior_head.bias, noise, classes, index[t + 1])
    action = torch.zeros((horizon + 1, rollouts, sum(policy.sizes)))
    action[1:] = one_hot(chosen, sum(policy.sizes))
    return (
        Features(index, deter, start.one_hot_size),
        action,
        [torch.stack(layer) for layer in zip(*by_step, strict=True)],
    )


def _act(
    policy: Policy, index: Tensor, deter: Tensor, one_hot_size: int, noise: Tensor | None, t: int
) -> tuple[list[Tensor], Tensor]:
    """Hidden layers [N, …], and numbers of the chosen actions [N, V] in the concatenated one-hot vectors of all V."""
    first, *others = policy.hidden
    hidden = [fast.feature_dense(index, deter, first.weight, first.bias)]
    for layer in others:
        product = fast.product(hidden[-1], fast.cast(layer.weight, deter.dtype))
        hidden.append(fast.bias_elu_(product, layer.bias))
    logits = fast.product(hidden[-1], fast.cast(policy.head.weight, deter.dtype))
    chosen = torch.empty((len(index), len(policy.sizes)), dtype=torch.int32)
    offset = 0
    for variable, classes in enumerate(policy.sizes):
        part = slice(offset, offset + classes)
        column = torch.empty((len(index), 1), dtype=torch.int32)
        draws = None if noise is None else noise[t, :, variable, None].contiguous()
        fast.sample_one_hot(logits[:, part].contiguous(), policy.head.bias[part], draws, classes, column)
        chosen[:, variable] = column[:, 0] + offset
        offset += classes
    return hidden, chosen

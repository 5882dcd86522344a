"""Imagination: rollouts of the actor inside the world model (paper, section 2.2)."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.dreamer.heads import Actor
from reverie.dreamer.rssm import State, stack_states
from reverie.dreamer.world_model import WorldModel


class Trajectory(NamedTuple):
    """N imagined rollouts of H steps. Index 0 is the start state, so that there are H1 = H + 1 entries.

    t                0            1              2                  …   H
    state            start        s_1            s_2                    s_H
    action[t]        0            chosen in 0    chosen in 1            chosen in H-1
    reward[t]        of start     r(s_1)         r(s_2)                 r(s_H)
    discount[t]      d_0          d_1            d_2                    d_H
    weight[t]        1            d_0            d_0 d_1                d_0 … d_(H-1)
    """

    feat: Float[Tensor, "H1 N F"]
    """Features of the states."""
    action: Float[Tensor, "H1 N A"]
    """Actions, of which `action[t]` led into state t; `action[0]` is zero."""
    reward: Float[Tensor, "H1 N"]
    """Predicted rewards on arriving in state t; `reward[0]` is that of the real start state (SPEC 28)."""
    discount: Float[Tensor, "H1 N"]
    """Discount factors of state t, gamma included."""
    weight: Float[Tensor, "H1 N"]
    """Product of the discount factors before state t, without gradient."""


class ImaginationNoise(NamedTuple):
    """Noise of a rollout, drawn at once."""

    latent: Tensor
    """[H, N, …]"""
    action: Tensor
    """[H, N, …]"""


def imagine_states(
    model: WorldModel, actor: Actor, start: State, horizon: int, noise: ImaginationNoise | None
) -> tuple[Float[Tensor, "H1 N F"], Float[Tensor, "H1 N A"]]:
    """Return the features of the states of a rollout, and the actions that led into them; see `imagine`."""
    states, actions = [start], [start.deter.new_zeros((start.deter.shape[0], actor.spec.size))]
    for t in range(horizon):
        action = actor(states[-1].feat.detach()).sample(None if noise is None else noise.action[t])
        states.append(model.rssm.imagine_step(states[-1], action, None if noise is None else noise.latent[t]))
        actions.append(action)
    return stack_states(states).feat, torch.stack(actions)


def make_trajectory(
    model: WorldModel, feat: Float[Tensor, "H1 N F"], action: Float[Tensor, "H1 N A"], is_terminal: Bool[Tensor, "N"]
) -> Trajectory:
    """Return a rollout with the rewards and discounts that the model predicts for its states; see `imagine`."""
    discount = model.discount(feat)
    if model.config.predict_discount:
        start = model.config.discount * (1 - is_terminal.float())
        discount = torch.cat([start[None], discount[1:]])
    weight = torch.cat([torch.ones_like(discount[:1]), discount[:-1]]).cumprod(0).detach()
    return Trajectory(feat, action, model.reward(feat), discount, weight)


def imagine(
    model: WorldModel,
    actor: Actor,
    start: State,
    is_terminal: Bool[Tensor, "N"],
    horizon: int,
    noise: ImaginationNoise | None,
) -> Trajectory:
    """Roll out the actor for `horizon` steps from every start state (SPEC 24 to 27; golden files 12).

    The actor reads states without gradient. Its actions have one, so that returns can be differentiated through the
    dynamics.

    Args:
        model: predicts states, rewards and discounts.
        actor: chooses actions.
        start: start states [N, …], without gradient.
        is_terminal: True where a real start state ended its episode. The discount of a start state is gamma or 0
            instead of the model's, its weight is 1 (SPEC 26).
        horizon: H.
        noise: None takes the mode of every state and action.
    """
    return make_trajectory(model, *imagine_states(model, actor, start, horizon, noise), is_terminal)

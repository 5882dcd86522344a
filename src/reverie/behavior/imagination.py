"""Rollouts inside the world model."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.behavior import rollouts
from reverie.behavior.networks import Actor
from reverie.fast.features import Features
from reverie.world_model import State, WorldModel
from reverie.world_model.rssm import stack_states


class Trajectory(NamedTuple):
    """N imagined rollouts of H steps; index 0 is where they start, so that there are H+1 entries."""

    feat: Float[Tensor, "H1 N F"] | Features
    """Features of the states."""
    action: Float[Tensor, "H1 N A"]
    """`action[t]` led into state t; `action[0]` is zero."""
    reward: Float[Tensor, "H1 N"]
    """Predicted on arriving in state t; `reward[0]` is that of the real start state (SPEC 27)."""
    discount: Float[Tensor, "H1 N"]
    """Discount factor of state t, gamma included."""
    weight: Float[Tensor, "H1 N"]
    """Probability, with gamma, that the rollout is still going on before state t's own discount; no gradient."""
    actor_hidden: list[Tensor] | None = None
    """Hidden layers of the actor in states 0 to H-1, where they were kept; each is [H, N, …], without gradient."""


class ImaginationNoise(NamedTuple):
    """All randomness of a rollout, drawn at once."""

    latent: Tensor
    """[H, N, …]"""
    action: Tensor
    """[H, N, …]"""


def draw_imagination_noise(
    model: WorldModel, actor: Actor, horizon: int, rollouts: int, generator: torch.Generator
) -> ImaginationNoise:
    """Noise for `imagine`."""
    shape = (horizon, rollouts)
    return ImaginationNoise(model.rssm.latents.draw_noise(shape, generator), actor.draw_noise(shape, generator))


def imagine(
    model: WorldModel,
    actor: Actor,
    start: State,
    is_terminal: Bool[Tensor, "N"],
    horizon: int,
    noise: ImaginationNoise | None,
) -> Trajectory:
    """Follow the policy for `horizon` steps from every start state (SPEC 24 to 27; golden files 12).

    The actor sees states without gradient; its samples carry one, so that returns can be differentiated through the
    dynamics wherever gradients are enabled.

    Args:
        model: supplies dynamics, rewards and discounts.
        actor: chooses the actions.
        start: [N, …], without gradient.
        is_terminal: whether the real start states ended their episode. Their own discount is gamma or 0 rather than
            the model's, and their weight is 1 all the same (SPEC 26).
        horizon: H.
        noise: None takes the mode of every state and action.
    """
    feat: Tensor | Features
    hidden = None
    if rollouts.serve(model.rssm, actor, start.deter):
        feat, action, hidden = rollouts.imagine(model.rssm, actor, start, horizon, *(noise or (None, None)))
    else:
        state, action = imagine_states(model, actor, start, horizon, noise)
        feat = state.feat
    discount = model.discount(feat)
    if model.config.predict_discount:
        true_first = model.config.discount * (1 - is_terminal.float())
        discount = torch.cat([true_first[None], discount[1:]])
    weight = torch.cat([torch.ones_like(discount[:1]), discount[:-1]]).cumprod(0).detach()
    return Trajectory(feat, action, model.reward(feat), discount, weight, hidden)


def imagine_states(
    model: WorldModel, actor: Actor, start: State, horizon: int, noise: ImaginationNoise | None
) -> tuple[State, Float[Tensor, "H1 N A"]]:
    """States of `imagine` [H+1, N, …], and the actions that led into them; the first is zero."""
    states, actions = [start], [start.deter.new_zeros((start.deter.shape[0], actor.spec.size))]
    for t in range(horizon):
        action = actor(states[-1].feat.detach()).sample(None if noise is None else noise.action[t])
        states.append(model.rssm.imagine_step(states[-1], action, None if noise is None else noise.latent[t]))
        actions.append(action)
    return stack_states(states), torch.stack(actions)

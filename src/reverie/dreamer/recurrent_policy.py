"""The acting part of an agent: encoder, RSSM and actor."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.dreamer.distributions import OneHot, draw_normal, draw_uniform
from reverie.dreamer.encoder_decoder import Encoder
from reverie.dreamer.heads import Actor
from reverie.dreamer.layers import autocast
from reverie.dreamer.rssm import RSSM, State
from reverie.dreamer.world_model import Preprocessor, infer
from reverie.specs import ActionSpec

Mode = Literal["sample", "mode"]


def explore(
    action: Float[Tensor, "N A"], spec: ActionSpec, amount: float, generator: torch.Generator
) -> Float[Tensor, "N A"]:
    """Add exploration noise to actions (release: `action_noise`, zero in all of its presets).

    Args:
        action: one-hot vectors, or values in [-1, 1].
        spec: kind of the actions.
        amount: probability of a uniformly random choice, or standard deviation of the added noise.
        generator: source of randomness.
    """
    if amount == 0:
        return action
    if spec.kind == "continuous":
        return (action + amount * draw_normal(tuple(action.shape), generator)).clamp(-1, 1)
    probs = [amount / part.shape[-1] + (1 - amount) * part for part in action.split(spec.sizes, -1)]
    noise = draw_uniform((*action.shape[:-1], len(spec.sizes)), generator)
    return OneHot(torch.cat(probs, -1).log(), spec.sizes).sample(noise)


class ActState(NamedTuple):
    """State of N environments between two decisions."""

    latent: State
    """Posterior states [N, …]."""
    action: Float[Tensor, "N A"]
    """Latest actions."""


class RecurrentPolicy(nn.Module):
    """Choose actions from observations: infer the latent state, then ask the actor."""

    def __init__(
        self, preprocess: Preprocessor, encoder: Encoder, rssm: RSSM, actor: Actor, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.preprocess, self.encoder, self.rssm, self.actor = preprocess, encoder, rssm, actor
        self.dtype = dtype
        """Precision of matrix products and convolutions."""

    def initial(self, num_envs: int) -> ActState:
        """Return the state before an episode, all zeros."""
        latent = self.rssm.initial((num_envs,))
        return ActState(latent, latent.deter.new_zeros((num_envs, self.actor.spec.size)))

    @torch.no_grad()
    def forward(
        self,
        obs: Mapping[str, Tensor],
        state: ActState | None = None,
        mode: Mode = "mode",
        generator: torch.Generator | None = None,
    ) -> ActState:
        """Choose actions in N environments (SPEC 38; golden files 14).

        Args:
            obs: latest step of each environment, [N, …], with `is_first` [N] where an episode starts, which resets
                that row of the state. Without `is_first` no row is reset.
            state: result of the previous call; None at the start.
            mode: sample actions, or take the mode of the actor, as in evaluation.
            generator: source of latent states and actions; None takes the modes of both.

        Returns:
            The new state, with the actions [N, A]: one-hot, or in [-1, 1].
        """
        num_envs = next(iter(obs.values())).shape[0]
        state = self.initial(num_envs) if state is None else state
        is_first = obs.get("is_first", torch.zeros(num_envs, dtype=torch.bool, device=state.action.device))
        steps = {**obs, "is_first": is_first, "action": state.action}
        noise = None if generator is None else self.rssm.latents.draw_noise((1, num_envs), generator)
        with autocast(state.action.device, self.dtype):
            sequence = {key: value[None] for key, value in steps.items()}
            posterior = infer(self.preprocess, self.encoder, self.rssm, sequence, state.latent, noise).posterior
            latent = posterior.map(lambda part: part[0])
            actor = self.choose_actor(mode)
            distribution = actor(latent.feat)
        if mode == "mode" or generator is None:
            return ActState(latent, distribution.sample(None))
        action = distribution.sample(actor.draw_noise((num_envs,), generator))
        amount = self.actor.config.exploration_noise
        return ActState(latent, explore(action, self.actor.spec, amount, generator))

    def choose_actor(self, mode: Mode) -> Actor:
        """Return the actor that acts in a mode."""
        return self.actor

    def clone(self) -> "RecurrentPolicy":
        """Return a copy with its own weights, which change by `load_weights` only."""
        return deepcopy(self).requires_grad_(False)

    @torch.no_grad()
    def load_weights(self, source: "RecurrentPolicy") -> None:
        """Copy another policy's weights and statistics into this one's."""
        own, other = self.state_dict(), source.state_dict()
        torch._foreach_copy_([own[name] for name in other], list(other.values()))

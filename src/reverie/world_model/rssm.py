"""The recurrent state-space model: how the latent state moves, with and without looking (paper, eq. 1).

h_t = f(h_{t-1}, s_{t-1}, a_{t-1})      `_recur`
s_t ~ q(s_t | h_t, x_t)                 posterior: `observe_step`
s_t ~ p(s_t | h_t)                      prior:     `imagine_step`
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.config import RSSMConfig
from reverie.networks.gru import GRUCell
from reverie.networks.layers import Dense
from reverie.world_model import filtering
from reverie.world_model.latents import make_latents


class State(NamedTuple):
    """A batch of latent states with any leading axes."""

    deter: Float[Tensor, "*N D"]
    """h: the GRU's state."""
    stoch: Float[Tensor, "*N Z"]
    """s: the sample, flattened."""
    stats: Float[Tensor, "*N P Q"]
    """What s was drawn from, see `latents.py`."""

    @property
    def feat(self) -> Float[Tensor, "*N F"]:
        """What every head reads: stochastic, then deterministic part."""
        return torch.cat([self.stoch, self.deter], -1)

    def map(self, function: Callable[[Tensor], Tensor]) -> "State":
        """Apply a function of one tensor to each part."""
        return State(*(function(part) for part in self))


def stack_states(states: list[State]) -> State:
    """Stack along a new first axis: time."""
    return State(*(torch.stack(parts) for parts in zip(*states, strict=True)))


class RSSM(nn.Module):
    """Transition, prior and posterior (SPEC 5 to 12; golden files 03)."""

    def __init__(self, config: RSSMConfig, embed_size: int, action_size: int) -> None:
        super().__init__()
        self.latents = make_latents(config)
        self.deter_size = config.deter
        self.feat_size = self.latents.size + config.deter
        width = int(torch.Size(self.latents.stats_shape).numel())
        self.input_layer = Dense(self.latents.size + action_size, config.hidden, config.layer_norm)
        self.cell = GRUCell(config.hidden, config.deter, config.gru_layer_norm)
        self.prior_layer = Dense(config.deter, config.hidden, config.layer_norm)
        self.prior_head = nn.Linear(config.hidden, width)
        self.posterior_layer = Dense(config.deter + embed_size, config.hidden, config.layer_norm)
        self.posterior_head = nn.Linear(config.hidden, width)

    def initial(self, batch: tuple[int, ...]) -> State:
        """All zeros: there is no learned initial state (SPEC 5)."""
        zeros = self.prior_head.weight.new_zeros
        return State(
            zeros((*batch, self.deter_size)),
            zeros((*batch, self.latents.size)),
            zeros((*batch, *self.latents.stats_shape)),
        )

    def _recur(self, state: State, action: Float[Tensor, "B A"]) -> Float[Tensor, "B D"]:
        return self.cell(self.input_layer(torch.cat([state.stoch, action], -1)), state.deter)

    def prior(self, deter: Float[Tensor, "*N D"]) -> Float[Tensor, "*N P Q"]:
        """Statistics of p(s | h). They depend on h alone, so a whole sequence takes one call."""
        return self.latents.stats(self.prior_head(self.prior_layer(deter)))

    def observe_step(
        self,
        state: State,
        action: Float[Tensor, "B A"],
        embed: Float[Tensor, "B E"],
        is_first: Bool[Tensor, "B"],
        noise: Tensor | None,
    ) -> State:
        """Posterior after `action` led from `state` to what `embed` shows.

        Where `is_first`, state and action count as zero and the ordinary transition runs (SPEC 6).
        """
        keep = (~is_first).to(embed.dtype)[:, None]
        state = State(state.deter * keep, state.stoch * keep, state.stats)
        deter = self._recur(state, action * keep)
        joined = torch.cat([deter.to(embed.dtype), embed], -1)
        stats = self.latents.stats(self.posterior_head(self.posterior_layer(joined)))
        return State(deter, self.latents.sample(stats, noise), stats)

    def imagine_step(self, state: State, action: Float[Tensor, "N A"], noise: Tensor | None) -> State:
        """Prior state after `action`, without an observation."""
        deter = self._recur(state, action)
        stats = self.prior(deter)
        return State(deter, self.latents.sample(stats, noise), stats)

    def observe(
        self,
        embed: Float[Tensor, "T B E"],
        action: Float[Tensor, "T B A"],
        is_first: Bool[Tensor, "T B"],
        state: State | None = None,
        noise: Tensor | None = None,
    ) -> tuple[State, Tensor]:
        """Filter a batch of sequences.

        Args:
            embed: the encoder's output.
            action: `action[t]` led INTO `embed[t]` (SPEC 1).
            is_first: where an episode starts.
            state: before the first step; None is `initial`.
            noise: `latents.draw_noise((T, B), …)`, drawn at once; None takes modes.

        Returns:
            Posterior states, and the prior's statistics at the same steps, both [T, B, …].
        """
        steps, batch = is_first.shape
        state = self.initial((batch,)) if state is None else state
        if filtering.serves(self, embed, action, state):
            posterior = State(*filtering.observe(self, embed, action, is_first, state, noise))
            return posterior, self.prior(posterior.deter)
        posteriors = []
        for t in range(steps):
            state = self.observe_step(state, action[t], embed[t], is_first[t], None if noise is None else noise[t])
            posteriors.append(state)
        posterior = stack_states(posteriors)
        return posterior, self.prior(posterior.deter)

    def imagine(self, action: Float[Tensor, "T B A"], state: State, noise: Tensor | None = None) -> State:
        """Open-loop states [T, B, …] along given actions."""
        states = []
        for t in range(action.shape[0]):
            state = self.imagine_step(state, action[t], None if noise is None else noise[t])
            states.append(state)
        return stack_states(states)

"""The recurrent state-space model (paper, eq. 1, with s_t for its z_t).

h_t = f(h_{t-1}, s_{t-1}, a_{t-1})      recurrent model        `RSSM.recur`
s_t ~ q(s_t | h_t, x_t)                 representation model   `RSSM.posterior`
s_t ~ p(s_t | h_t)                      transition predictor   `RSSM.prior`

`RSSM.observe_step` is one step with an observation, `RSSM.imagine_step` one without.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.config import RSSMConfig
from reverie.dreamer.latents import make_latents
from reverie.dreamer.layers import Dense, LayerNorm

UPDATE_BIAS = -1.0
"""Added to the update gate, so that an untrained cell mostly keeps its state."""


class GRUCell(nn.Module):
    """GRU with one joint layer norm over its three gates (SPEC 10; golden file 02).

        reset, candidate, update = split(norm(W [x, h] + b))
        candidate = tanh(sigmoid(reset) * candidate)
        update = sigmoid(update - 1)
        h' = update * candidate + (1 - update) * h

    It differs from the textbook's GRU in two ways: the reset gate multiplies the candidate's whole pre-activation
    instead of the state, and an update gate of 1 takes the candidate.
    """

    def __init__(self, inputs: int, size: int, layer_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs + size, 3 * size)
        self.norm = LayerNorm(3 * size) if layer_norm else nn.Identity()

    def forward(self, input: Float[Tensor, "*N I"], state: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Return the next state; gates and state are float32 under autocast, too."""
        gates = self.norm(self.linear(torch.cat([input, state.to(input.dtype)], -1)).float())
        reset, candidate, update = gates.chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update + UPDATE_BIAS)
        return update * candidate + (1 - update) * state


class State(NamedTuple):
    """Batch of latent states with any leading axes."""

    deter: Float[Tensor, "*N D"]
    """h_t, the GRU's state."""
    stoch: Float[Tensor, "*N Z"]
    """s_t, a flattened sample."""
    stats: Float[Tensor, "*N P Q"]
    """Statistics of the distribution that s_t was drawn from, see `latents.py`."""

    @property
    def feat(self) -> Float[Tensor, "*N F"]:
        """Features z_t = [s_t, h_t], the input of every head."""
        return torch.cat([self.stoch, self.deter], -1)

    def map(self, function: Callable[[Tensor], Tensor]) -> "State":
        """Apply a function to each part."""
        return State(*(function(part) for part in self))


def stack_states(states: list[State]) -> State:
    """Stack states along a new first axis, time."""
    return State(*(torch.stack(parts) for parts in zip(*states, strict=True)))


class RSSM(nn.Module):
    """Recurrent model, representation model and transition predictor (SPEC 5 to 12; golden files 03)."""

    def __init__(self, config: RSSMConfig, embed_size: int, action_size: int) -> None:
        super().__init__()
        self.latents = make_latents(config)
        self.deter_size = config.deter
        self.feat_size = self.latents.size + config.deter
        width = math.prod(self.latents.stats_shape)
        self.input_layer = Dense(self.latents.size + action_size, config.hidden, config.layer_norm)
        self.cell = GRUCell(config.hidden, config.deter, config.gru_layer_norm)
        self.prior_layer = Dense(config.deter, config.hidden, config.layer_norm)
        self.prior_head = nn.Linear(config.hidden, width)
        self.posterior_layer = Dense(config.deter + embed_size, config.hidden, config.layer_norm)
        self.posterior_head = nn.Linear(config.hidden, width)

    def initial(self, batch: tuple[int, ...]) -> State:
        """Return the state before an episode, all zeros: it is not learned (SPEC 5). Its statistics are not read."""
        zeros = self.cell.linear.weight.new_zeros
        return State(
            zeros((*batch, self.deter_size), dtype=torch.float32),
            zeros((*batch, self.latents.size), dtype=torch.float32),
            zeros((*batch, *self.latents.stats_shape), dtype=torch.float32),
        )

    def recur(self, state: State, action: Float[Tensor, "B A"]) -> Float[Tensor, "B D"]:
        """Return h_t, the deterministic state after `action`."""
        return self.cell(self.input_layer(torch.cat([state.stoch, action], -1)), state.deter)

    def prior(self, deter: Float[Tensor, "*N D"]) -> Float[Tensor, "*N P Q"]:
        """Return the statistics of p(s_t | h_t)."""
        return self.latents.stats(self.prior_head(self.prior_layer(deter)))

    def posterior(self, deter: Float[Tensor, "*N D"], embed: Float[Tensor, "*N E"]) -> Float[Tensor, "*N P Q"]:
        """Return the statistics of q(s_t | h_t, x_t)."""
        joined = torch.cat([deter.to(embed.dtype), embed], -1)
        return self.latents.stats(self.posterior_head(self.posterior_layer(joined)))

    def imagine_step(self, state: State, action: Float[Tensor, "B A"], noise: Tensor | None) -> State:
        """Return the prior state after `action`; noise None takes the mode."""
        deter = self.recur(state, action)
        stats = self.prior(deter)
        return State(deter, self.latents.sample(stats, noise), stats)

    def observe_step(
        self,
        state: State,
        action: Float[Tensor, "B A"],
        embed: Float[Tensor, "B E"],
        is_first: Bool[Tensor, "B"],
        noise: Tensor | None,
    ) -> State:
        """Return the posterior state after `action` led from `state` to the observation of `embed`.

        Where an episode starts, state and action are zero and the transition is applied to them (SPEC 6).
        """
        keep = (~is_first).to(embed.dtype)[:, None]
        state = State(state.deter * keep, state.stoch * keep, state.stats)
        deter = self.recur(state, action * keep)
        stats = self.posterior(deter, embed)
        return State(deter, self.latents.sample(stats, noise), stats)

    def observe(
        self,
        embed: Float[Tensor, "T B E"],
        action: Float[Tensor, "T B A"],
        is_first: Bool[Tensor, "T B"],
        state: State | None = None,
        noise: Tensor | None = None,
    ) -> State:
        """Filter a batch of sequences.

        Args:
            embed: embedded observations.
            action: actions, of which `action[t]` led into `embed[t]` (SPEC 1).
            is_first: True where an episode starts.
            state: state before the first step; None is `initial`.
            noise: `latents.draw_noise((T, B), generator)`; None takes modes.

        Returns:
            Posterior states [T, B, …].
        """
        steps, batch = is_first.shape
        state = self.initial((batch,)) if state is None else state
        states = []
        for t in range(steps):
            state = self.observe_step(state, action[t], embed[t], is_first[t], None if noise is None else noise[t])
            states.append(state)
        return stack_states(states)

    def imagine(self, action: Float[Tensor, "T B A"], state: State, noise: Tensor | None = None) -> State:
        """Return the prior states [T, B, …] along given actions, without observations."""
        states = []
        for t in range(action.shape[0]):
            state = self.imagine_step(state, action[t], None if noise is None else noise[t])
            states.append(state)
        return stack_states(states)

"""Step the world model by hand: a dream that can be rewound and branched.

    dream = reverie.Dream(reverie.load("runs/boxing"))
    state = dream.begin(episode)                    # rows of a recorded episode: the state after the last one
    state = dream.step(state, dream.act(state))     # as often as you like, from any state

A `DreamState` is a value: nothing changes it, so that a dream is rewound by stepping from an earlier one again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reverie.acting import to_tensors
from reverie.dreamer import Dreamer, State
from reverie.dreamer.distributions import OneHot
from reverie.dreamer.latents import Binary, Gaussian
from reverie.dreamer.recurrent_policy import Mode
from reverie.specs import Array, Step

PIECE = 256
"""Recorded steps that are encoded at once."""
LATENT, ACTION = 0, 1
"""Kinds of samples, which have generators of their own."""


@dataclass(frozen=True)
class DreamState:
    """A latent state, with what is decoded and predicted from it."""

    latent: State
    """The state, [1, …]."""
    depth: int
    """Steps since the beginning of the dream."""
    observations: Mapping[str, Array]
    """Predicted images uint8 [64, 64, C] and vectors float32 [V], by key."""
    reward: float
    """Predicted reward on arriving here, after `world_model.reward_transform`."""
    continues: float
    """Probability that the episode continues after this state; 1 where the model does not predict it."""
    value: float
    """The critic's estimate of the return, in the units of its (normalised) rewards."""
    policy: Array
    """Discrete actions: probabilities [A]. Continuous ones: the actor's mode [A]."""


class Observed(NamedTuple):
    """Result of `Dream.observe`."""

    state: DreamState
    surprise: float
    """KL of the posterior from the prior in nats: how much the observation has told the model."""


class Dream:
    """The world model of an agent, one step at a time.

    Samples depend on the seed and the depth alone, so that the same actions give the same dream, bit for bit on one
    machine, and two branches differ by their actions only.

    Args:
        agent: a trained agent, as from `reverie.load`.
        seed: seed of all samples.
        temperature: of the prior in `step`; below 1 likely states become likelier, above 1 less so.
        deterministic: take the mode of the prior.
    """

    def __init__(self, agent: Dreamer, seed: int = 0, *, temperature: float = 1.0, deterministic: bool = False) -> None:
        self.agent, self.seed = agent, seed
        self.temperature, self.deterministic = temperature, deterministic

    @torch.no_grad()
    def begin(self, steps: Step) -> DreamState:
        """Return the state that is inferred from the last of some recorded steps.

        Args:
            steps: rows of an episode, [T, …] by key, of which `action[t]` led into observation t.
        """
        model, length = self.agent.world_model, len(steps["is_first"])
        generator = self._generator(-1, LATENT)
        noise = None if self.deterministic else model.rssm.latents.draw_noise((length, 1), generator)
        state = None
        for start in range(0, length, PIECE):
            piece = slice(start, start + PIECE)
            rows = {key: value[piece, None] for key, value in steps.items()}
            with self.agent.autocast():
                drawn = None if noise is None else noise[piece]
                posterior = model.infer(to_tensors(rows, self.agent.device), state, drawn).posterior
            state = posterior.map(lambda part: part[-1])
        assert state is not None
        return self._decoded(state, 0)

    @torch.no_grad()
    def step(self, state: DreamState, action: Array) -> DreamState:
        """Return the state that the model imagines after an action [A], one-hot or in [-1, 1]."""
        rssm = self.agent.world_model.rssm
        with self.agent.autocast():
            deter = rssm.recur(state.latent, self._tensor(action))
            latent = self._draw(deter, rssm.prior(deter), state.depth + 1)
        return self._decoded(latent, state.depth + 1)

    @torch.no_grad()
    def observe(self, state: DreamState, action: Array, row: Mapping[str, Array]) -> Observed:
        """Return the state that is inferred after an action has led to an observation.

        Args:
            state: the inferred state before.
            action: the action [A].
            row: the observations [...] by key.
        """
        model = self.agent.world_model
        arrays = {key: np.asarray(row[key])[None, None] for key in self.agent.spec.observations}
        sequence = to_tensors(arrays, self.agent.device)
        sequence["action"] = self._tensor(action)[None]
        sequence["is_first"] = torch.zeros((1, 1), dtype=torch.bool, device=self.agent.device)
        depth = state.depth + 1
        noise = self._noise(depth)
        with self.agent.autocast():
            posterior = model.infer(sequence, state.latent, None if noise is None else noise[None]).posterior
            found = posterior.map(lambda part: part[0])
            surprise = model.rssm.latents.kl(found.stats, model.rssm.prior(found.deter))
        return Observed(self._decoded(found, depth), float(surprise))

    @torch.no_grad()
    def act(self, state: DreamState, mode: Mode = "mode", temperature: float = 1.0) -> Array:
        """Return the actor's action [A] in a state; with samples, discrete ones at a temperature."""
        actor = self.agent.actor_critic.actor
        with self.agent.autocast():
            distribution = actor(state.latent.feat)
        if mode == "mode":
            return self._array(distribution.mode())[0]
        if isinstance(distribution, OneHot):
            distribution = OneHot(distribution.logits / temperature, distribution.sizes)
        noise = actor.draw_noise((1,), self._generator(state.depth, ACTION))
        return self._array(distribution.sample(noise))[0]

    def _decoded(self, latent: State, depth: int) -> DreamState:
        agent, model = self.agent, self.agent.world_model
        with agent.autocast():
            feat = latent.feat
            images, vectors = model.decoder.images(feat), model.decoder.vectors(feat)
            reward, value = model.reward(feat), agent.actor_critic.critic(feat)
            discount = model.discount(feat) if model.config.predict_discount else None
            distribution = agent.actor_critic.actor(feat)
        if isinstance(distribution, OneHot):
            policy = torch.cat([part.softmax(-1) for part in distribution.parts], -1)
        else:
            policy = distribution.mode()
        observations = {key: self._array((image + 0.5).clamp(0, 1) * 255)[0] for key, image in images.items()}
        observations = {key: np.rint(image).astype(np.uint8) for key, image in observations.items()}
        norm = model.preprocess.vector_norm
        for key, vector in vectors.items():
            observations[key] = self._array(vector if norm is None else norm.invert(key, vector))[0]
        return DreamState(
            latent=latent,
            depth=depth,
            observations=observations,
            reward=float(reward),
            continues=1.0 if discount is None else min(float(discount) / max(model.config.discount, 1e-6), 1.0),
            value=float(value),
            policy=self._array(policy)[0],
        )

    def _draw(self, deter: Tensor, stats: Tensor, depth: int) -> State:
        latents, temperature = self.agent.world_model.rssm.latents, self.temperature
        if temperature == 1 or self.deterministic:
            tempered = stats
        elif isinstance(latents, Gaussian):
            tempered = torch.stack([stats.select(-2, 0), stats.select(-2, 1) * temperature], -2)
        else:
            tempered = stats / temperature
        return State(deter, latents.sample(tempered, self._noise(depth)), stats)

    def _noise(self, depth: int) -> Tensor | None:
        if self.deterministic:
            return None
        latents = self.agent.world_model.rssm.latents
        noise = latents.draw_noise((1, 1), self._generator(depth, LATENT))
        return noise[0]

    def _generator(self, depth: int, kind: int) -> torch.Generator:
        entropy = np.random.SeedSequence((self.seed, depth + 1, kind))
        return torch.Generator(self.agent.device).manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))

    def _tensor(self, action: Array) -> Tensor:
        return torch.as_tensor(np.asarray(action, np.float32), device=self.agent.device)[None]

    @staticmethod
    def _array(value: Tensor) -> Array:
        return value.float().cpu().numpy()


def latent_classes(latent: State, agent: Dreamer) -> tuple[list[int], int]:
    """Return the class of each latent variable and their number of classes; bits have two, normals none (0)."""
    latents = agent.world_model.rssm.latents
    if isinstance(latents, Gaussian):
        return [], 0
    if isinstance(latents, Binary):
        return [int(bit) for bit in latent.stoch[0]], 2
    variables, classes = latents.stats_shape
    return latent.stoch[0].reshape(variables, classes).argmax(-1).tolist(), classes

"""The policy of a run whose environments are stepped by collectors on Ray."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reverie.acting import AgentPolicy
from reverie.config import RayConfig
from reverie.dreamer import ActState, Dreamer
from reverie.scaling.cluster import ray
from reverie.scaling.remote_collector import ActArrays, pack_act_state, unpack_act_state


class PublishedPolicy(AgentPolicy):
    """A policy that acts in the collectors, with weights that they take from Ray's object store.

    Args:
        agent: the agent that learns.
        num_collectors: C.
        settings: how often, and how precisely, weights are published.
    """

    def __init__(self, agent: Dreamer, num_collectors: int, settings: RayConfig) -> None:
        self.parts: list[ActArrays] = [{}] * num_collectors
        """State of the policy in the environments of each collector; empty before the first call."""
        super().__init__(agent, policy=agent.collecting_policy)
        self.agent, self._settings = agent, settings
        self._weights: Any = None
        self._published_at = -1

    @property
    def state(self) -> ActState | None:
        """State of all environments; None before the first call."""
        if not all(self.parts):
            return None
        return unpack_act_state({name: np.concatenate([each[name] for each in self.parts]) for name in self.parts[0]})

    @state.setter
    def state(self, state: ActState | None) -> None:
        self.parts = [{}] * len(self.parts)
        for name, rows in (pack_act_state(state) if state is not None else {}).items():
            split = np.split(rows, len(self.parts))
            self.parts = [{**part, name: own} for part, own in zip(self.parts, split, strict=True)]

    def draw_seed(self) -> int:
        """Draw the seed of a segment from the agent's generator."""
        generator = self.agent.act_generator
        return int(torch.randint(2**62, (), generator=generator, device=generator.device))

    def published(self) -> tuple[Any, int]:
        """Return a reference to weights, and the updates of the agent that they are from.

        They are the latest, or with the free schedule at most `ray.weights_every` - 1 updates older.
        """
        updates, is_free = self.agent.updates, self._settings.schedule == "free"
        if self._weights is None or updates - self._published_at >= (self._settings.weights_every if is_free else 1):
            state = self.policy.state_dict().items()
            self._weights = ray.put({name: self._pack(tensor.detach().cpu()) for name, tensor in state})
            self._published_at = updates
        return self._weights, self._published_at

    def _pack(self, tensor: torch.Tensor) -> NDArray[Any]:
        if self._settings.weights_precision == "bf16" and tensor.is_floating_point() and tensor.ndim > 1:
            return tensor.bfloat16().view(torch.int16).numpy()
        return tensor.numpy()

"""Act with an agent on the steps of `VectorEnv`."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reverie.dreamer import ActState, Dreamer, RecurrentPolicy
from reverie.dreamer.recurrent_policy import Mode
from reverie.specs import Array


def to_tensors(steps: Mapping[str, Array | Tensor], device: torch.device) -> dict[str, Tensor]:
    """Convert arrays to tensors of the same dtypes on a device."""
    return {
        key: (value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))).to(
            device, non_blocking=True
        )
        for key, value in steps.items()
    }


class AgentPolicy:
    """An agent on the steps of N environments, with the latent state of each.

    Args:
        agent: the agent.
        mode: sample actions, or take the actor's mode, as in evaluation.
        generator: source of latent states and actions; None is the agent's own.
        policy: acts in place of `agent.recurrent_policy`, such as a clone of it.
    """

    def __init__(
        self,
        agent: Dreamer,
        mode: Mode = "sample",
        generator: torch.Generator | None = None,
        policy: RecurrentPolicy | None = None,
    ) -> None:
        self.policy = policy or agent.recurrent_policy
        self.state: ActState | None = None
        """State of the environments; None before the first call."""
        self._mode, self._generator = mode, generator or agent.act_generator
        norm = self.policy.preprocess.vector_norm
        keys = self.policy.encoder.keys
        needed = {*keys.images, *keys.vectors, *(norm.keys if norm is not None else ())}
        self._keys = [*(key for key in agent.spec.observations if key in needed), "is_first"]

    def __call__(self, step: Mapping[str, Array | Tensor]) -> NDArray[np.float32]:
        """Choose actions [N, A], one-hot or in [-1, 1], from the latest steps [N, …].

        `is_first` resets a row of the state; further keys are ignored.
        """
        inputs = to_tensors({key: step[key] for key in self._keys if key in step}, self._generator.device)
        self.state = self.policy(inputs, self.state, self._mode, self._generator)
        return self.state.action.float().cpu().numpy()

    def reset(self) -> None:
        """Forget the state: the next observations start episodes."""
        self.state = None

"""Act with an agent on NumPy observations, as environments give them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reverie.dreamer import ActState, Dreamer, RecurrentPolicy
from reverie.dreamer.recurrent_policy import Mode
from reverie.errors import ObservationError
from reverie.specs import STEP_KEYS, Array, ArraySpec


def to_tensors(steps: Mapping[str, Array | Tensor], device: torch.device) -> dict[str, Tensor]:
    """Convert arrays to tensors of the same dtypes on a device."""
    return {
        key: (value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))).to(
            device, non_blocking=True
        )
        for key, value in steps.items()
    }


class AgentPolicy:
    """An agent in N environments, with the latent state of each.

    Args:
        agent: the agent; its spec says which observations are valid.
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
        self._spec, self._mode, self._generator = agent.spec, mode, generator or agent.act_generator
        norm = self.policy.preprocess.vector_norm
        keys = self.policy.encoder.keys
        needed = {*keys.images, *keys.vectors, *(norm.keys if norm is not None else ())}
        self._keys = [key for key in agent.spec.observations if key in needed]

    def __call__(self, obs: Mapping[str, Array | Tensor]) -> NDArray[np.float32]:
        """Choose actions.

        Args:
            obs: latest step of each environment, [N, …]: the environment's keys, and `is_first` where an episode
                starts, which resets that row of the state. Without `is_first` no row is reset. Images are uint8,
                vectors are floats; further keys are ignored.

        Returns:
            Actions [N, A], one-hot or in [-1, 1].

        Raises:
            ObservationError: if the observation does not fit the agent's spaces. It is a `ValueError`, too.
        """
        num_envs = check_observation(obs, self._spec.observations, self._keys)
        if self.state is not None and len(self.state.action) != num_envs:
            raise ObservationError(
                f"The observation has {num_envs} environments, but the policy's state has {len(self.state.action)}. "
                "Call reset() before acting in others."
            )
        inputs = {key: obs[key] for key in (*self._keys, "is_first") if key in obs}
        self.state = self.policy(to_tensors(inputs, self._generator.device), self.state, self._mode, self._generator)
        return self.state.action.float().cpu().numpy()

    def reset(self) -> None:
        """Forget the state: the next observations start episodes."""
        self.state = None


def check_observation(obs: object, spaces: Mapping[str, ArraySpec], required: list[str]) -> int:
    """Check that an agent can act on an observation; keys that are not in its spaces are ignored.

    Args:
        obs: arrays or tensors [N, …] by key, with `is_first` [N] or without.
        spaces: shapes and dtypes without the axis of environments.
        required: keys that must be present.

    Returns:
        N, the number of environments.

    Raises:
        ObservationError: if it does not fit, or contains a non-finite number.
    """
    if not isinstance(obs, Mapping):
        raise ObservationError(
            f"The observation is a {type(obs).__name__}. The agent reads a dictionary of {', '.join(required)}, each "
            "an array of shape (N, ...) for N environments."
        )
    counts = {}
    for key, spec in spaces.items():
        if key in obs:
            counts[f"'{key}'"] = _check_entry(key, obs[key], spec)
        elif key in required:
            raise ObservationError(
                f"The observation has no '{key}'. The agent reads {', '.join(required)}. "
                "Give each as an array of shape (N, ...) for N environments."
            )
    if "is_first" in obs:
        counts["is_first"] = _check_entry("is_first", obs["is_first"], STEP_KEYS["is_first"])
    (first, count), *others = counts.items()
    for name, other in others:
        if other != count:
            raise ObservationError(
                f"{name} has {other} environments, but {first} has {count}. Give all of the same number."
            )
    return count


def _check_entry(key: str, value: Any, spec: ArraySpec) -> int:
    shape = getattr(value, "shape", None)
    if shape is None:
        raise ObservationError(f"'{key}' is a {type(value).__name__}. Give a NumPy array or a tensor.")
    if len(shape) == 0 or shape[1:] != spec.shape:
        wanted = f"({', '.join(['N', *map(str, spec.shape)])}{',' if not spec.shape else ''})"
        if shape == spec.shape:
            raise ObservationError(
                f"'{key}' has shape {tuple(shape)}. Observations need a leading batch axis, {wanted}. "
                "Add it with value[None]."
            )
        raise ObservationError(
            f"'{key}' has shape {tuple(shape)}, but {wanted} is needed. Convert it as reverie.make_env does."
        )
    dtypes, advice = _VALID_DTYPES[spec.dtype]
    if value.dtype not in dtypes:
        raise ObservationError(f"'{key}' is {str(value.dtype).removeprefix('torch.')}, but the agent reads {advice}.")
    if spec.dtype == "float32":
        is_finite = value.isfinite() if isinstance(value, Tensor) else np.isfinite(value)
        if value.dtype in _DOUBLE:
            is_finite &= abs(value) <= np.finfo(np.float32).max
        if not is_finite.all():
            raise ObservationError(f"'{key}' has NaN or infinity, perhaps as float32 only. Check its source.")
    return int(shape[0])


_DOUBLE = frozenset({np.dtype(np.float64), torch.float64})
_VALID_DTYPES: dict[str, tuple[frozenset[Any], str]] = {
    "uint8": (frozenset({np.dtype(np.uint8), torch.uint8}), "uint8. Give pixels from 0 to 255"),
    "bool": (frozenset({np.dtype(np.bool_), torch.bool}), "bool"),
    "float32": (
        frozenset({np.dtype(np.float32), np.dtype(np.float16), torch.float32, torch.float16, torch.bfloat16}) | _DOUBLE,
        "floats. Convert it to float32",
    ),
}
"""Valid dtypes of observations by dtype of the space, and words for them."""

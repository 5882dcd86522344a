"""Decisions: what an agent does with what it sees, and copies of an agent that can do nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reverie.behavior.networks import Actor
from reverie.config import Config
from reverie.errors import ObservationError
from reverie.fast.cuda_graphs import CudaRecorder, Graphed, Recorder
from reverie.fast.precision import prefers_bf16
from reverie.networks.distributions import noisy_action
from reverie.networks.scalars import Scalars
from reverie.specs import STEP_KEYS, Array, ArraySpec, EnvSpec
from reverie.world_model import State, WorldModel

Observation = Mapping[str, Array | Tensor]


class ActState(NamedTuple):
    """What is remembered between two decisions in N environments."""

    latent: State
    """[N, …]"""
    action: Tensor
    """[N, A], the previous actions."""


def product_dtype(device: torch.device, config: Config) -> torch.dtype:
    """What `training.precision` stands for on a device."""
    precision = config.training.precision
    bf16 = precision == "bf16" or (precision == "auto" and prefers_bf16(device))
    return torch.bfloat16 if bf16 else torch.float32


def precision_name(device: torch.device, config: Config) -> str:
    """What `training.precision` stands for on a device: `bf16` or `fp32`."""
    return "bf16" if product_dtype(device, config) == torch.bfloat16 else "fp32"


def autocast(device: torch.device, config: Config) -> AbstractContextManager[Any]:
    """Where the precision is bf16, matrix products and convolutions inside run in bfloat16 (SPEC 37)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=product_dtype(device, config) == torch.bfloat16)


def to_tensors(steps: Observation, device: torch.device) -> dict[str, Tensor]:
    """Arrays to tensors on a device; dtypes stay."""
    return {
        key: (value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))).to(
            device, non_blocking=True
        )
        for key, value in steps.items()
    }


def check_observation(observation: object, spec: EnvSpec, read: Sequence[str]) -> int:
    """Make sure that an agent can act on an observation; keys that are not in its spaces are not looked at.

    Args:
        observation: should be arrays or tensors [N, …] by key, with `is_first` [N] or without.
        spec: the spaces.
        read: keys that must be there.

    Returns:
        N, the number of environments.

    Raises:
        ObservationError: if it does not fit, or holds a number that is not finite.
    """
    if not isinstance(observation, Mapping):
        raise ObservationError(
            f"act() was given a {type(observation).__name__}. It reads a dictionary of {', '.join(read)}, "
            "each an array of shape (N, ...) for N environments."
        )
    counts = {}
    for key, entry in spec.observations.items():
        if key in observation:
            counts[f"'{key}'"] = _check_entry(key, observation[key], entry)
        elif key in read:
            raise ObservationError(
                f"The observation has no '{key}'. The agent reads {', '.join(read)}. "
                "Give each as an array of shape (N, ...) for N environments."
            )
    if "is_first" in observation:
        counts["is_first"] = _check_entry("is_first", observation["is_first"], STEP_KEYS["is_first"])
    (first, count), *others = counts.items()
    for name, other in others:
        if other != count:
            raise ObservationError(f"{name} is of {other} environments, but {first} of {count}. Give all of the same.")
    return count


def check_state(state: object, initial: ActState, count: int) -> None:
    """Make sure that an agent can go on from a state.

    Args:
        state: should be what `act` returned for as many environments; None is the start.
        initial: a state of the agent, for the sizes of its parts.
        count: environments in the observation.

    Raises:
        ObservationError: if it does not fit.
    """
    if state is None:
        return
    advice = "Pass the state that act() returned for these environments, or None at the start."
    if not isinstance(state, ActState):
        raise ObservationError(f"The state is a {type(state).__name__}. {advice}")
    if not isinstance(state.latent, State):
        raise ObservationError(f"The latent of the state is a {type(state.latent).__name__}. {advice}")
    parts = {**state.latent._asdict(), "action": state.action}
    own = {**initial.latent._asdict(), "action": initial.action}
    for name, part in parts.items():
        if not isinstance(part, Tensor):
            raise ObservationError(f"The {name} of the state is a {type(part).__name__}. {advice}")
        wanted = own[name].shape[1:]
        if part.ndim == 0 or part.shape[1:] != wanted:
            needed = ", ".join(["N", *map(str, wanted)])
            raise ObservationError(
                f"The {name} of the state has shape {tuple(part.shape)}, but this agent's has ({needed}). {advice}"
            )
        if len(part) != count:
            raise ObservationError(
                f"The state is of {len(part)} environments, but the observation of {count}. {advice}"
            )


def _check_entry(key: str, value: Any, entry: ArraySpec) -> int:
    """Return the number of environments in one entry of an observation; raises ObservationError if it does not fit."""
    shape = getattr(value, "shape", None)
    if shape is None:
        raise ObservationError(f"'{key}' is a {type(value).__name__}. Give a NumPy array or a tensor.")
    if len(shape) == 0 or shape[1:] != entry.shape:
        wanted = f"({', '.join(['N', *map(str, entry.shape)])}{',' if not entry.shape else ''})"
        if shape == entry.shape:
            raise ObservationError(
                f"'{key}' has shape {tuple(shape)}. Observations need a leading batch axis, {wanted}. "
                "Add it with value[None]."
            )
        raise ObservationError(
            f"'{key}' has shape {tuple(shape)}, but {wanted} is needed. Convert it as reverie.make_env does."
        )
    names, advice = _TAKEN[entry.dtype]
    if value.dtype not in names:
        raise ObservationError(f"'{key}' is {str(value.dtype).removeprefix('torch.')}, but the agent reads {advice}.")
    if entry.dtype == "float32":
        finite = value.isfinite() if isinstance(value, Tensor) else np.isfinite(value)
        if value.dtype in _DOUBLE:
            finite &= abs(value) <= np.finfo(np.float32).max
        if not finite.all():
            raise ObservationError(f"'{key}' holds NaN or infinity, perhaps as float32 only. Check its source.")
    return int(shape[0])


_DOUBLE = frozenset({np.dtype(np.float64), torch.float64})
_TAKEN: dict[str, tuple[frozenset[Any], str]] = {
    "uint8": (frozenset({np.dtype(np.uint8), torch.uint8}), "uint8. Give pixels from 0 to 255"),
    "bool": (frozenset({np.dtype(np.bool_), torch.bool}), "bool"),
    "float32": (
        frozenset({np.dtype(np.float32), np.dtype(np.float16), torch.float32, torch.float16, torch.bfloat16}) | _DOUBLE,
        "floats. Convert it to float32",
    ),
}
"""By dtype of a space: dtypes that `act` takes, and words for them."""


class Player:
    """The part of an agent that decides: encoder and RSSM of its world model, and its actor.

    Args:
        model: of which encoder, RSSM and the scale of vectors are used.
        actor: the policy.
        config: the agent's.
        spec: the environment's observations and actions.
        generator: source of samples; the player runs on its device.
        recorder: of a graph for sampled decisions; None decides without one.
    """

    def __init__(
        self,
        model: WorldModel,
        actor: Actor,
        config: Config,
        spec: EnvSpec,
        generator: torch.Generator,
        recorder: Recorder | None = None,
    ) -> None:
        self.model, self.actor = model, actor
        self.config, self.spec = config, spec
        self.generator = generator
        self._graph = Graphed(self._decide_by_name, generator.device, recorder, "Acting") if recorder else None

    def frozen(self) -> Player:
        """A copy with weights of its own, which stay as they are until `copy_from`; it draws from the same generator.

        Its weights are stored the way that a decision reads them, in the precision that it computes in: converting
        them anew takes up to a third of a decision's time. On a GPU a decision is a recorded graph.
        """
        model, actor = deepcopy((self.model, self.actor))
        for unused in ("decoder", "reward_head", "discount_head"):
            if hasattr(model, unused):
                delattr(model, unused)
        dtype = product_dtype(self.generator.device, self.config)
        for layer in (*model.modules(), *actor.modules()):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                order = torch.channels_last if isinstance(layer, nn.Conv2d) else torch.contiguous_format
                layer.weight = nn.Parameter(layer.weight.detach().to(dtype, memory_format=order))
        model.requires_grad_(False)
        actor.requires_grad_(False)
        device, recorder = self.generator.device, None
        if self.config.training.cuda_graphs and device.type == "cuda":
            recorder = CudaRecorder(device, [self.generator])
        return Player(model, actor, self.config, self.spec, self.generator, recorder)

    @torch.no_grad()
    def copy_from(self, source: Player) -> None:
        """Take over another player's weights of this moment, into the memory that this one's are in."""
        mine, theirs = self.tensors(), source.tensors()
        torch._foreach_copy_(list(mine.values()), [theirs[name] for name in mine])

    def tensors(self) -> dict[str, Tensor]:
        """Weights and statistics, by name."""
        parts = nn.ModuleDict({"model": self.model, "actor": self.actor})
        return {**dict(parts.named_parameters()), **dict(parts.named_buffers())}

    def initial(self, count: int) -> ActState:
        """The state at the start of N environments: all zeros."""
        latent = self.model.rssm.initial((count,)).map(torch.Tensor.float)
        return ActState(latent, latent.deter.new_zeros((count, self.spec.action.size)))

    @torch.no_grad()
    def act(
        self,
        observation: Observation,
        state: ActState | None = None,
        deterministic: bool = False,
        *,
        sample: bool = True,
        generator: torch.Generator | None = None,
    ) -> tuple[NDArray[np.float32], ActState]:
        """Choose actions in N environments; see `Dreamer.act`."""
        generator = generator or self.generator
        device = generator.device
        keys = [*self.spec.observations, "is_first"]
        latest = to_tensors({key: observation[key] for key in keys if key in observation}, device)
        count = next(iter(latest.values())).shape[0]
        if "is_first" not in latest:
            latest["is_first"] = torch.zeros(count, dtype=torch.bool, device=device)
        state = self.initial(count) if state is None else state
        if self._graph and sample and not deterministic and generator is self.generator:
            state = _from_names(self._graph(latest | _by_name(state), {}))
        else:
            state = self._decide(latest, state, deterministic, sample, generator)
        return state.action.float().cpu().numpy(), state

    def _decide(
        self,
        latest: dict[str, Tensor],
        state: ActState,
        deterministic: bool,
        sample: bool,
        generator: torch.Generator,
    ) -> ActState:
        """The arithmetic of `act`, which looks at no value."""
        model, actor = self.model, self.actor
        steps = model.preprocess(latest)
        count = steps["is_first"].shape[0]
        with autocast(generator.device, self.config):
            noise = model.rssm.latents.draw_noise((count,), generator) if sample else None
            latent = model.rssm.observe_step(state.latent, state.action, model.encoder(steps), steps["is_first"], noise)
            policy = actor(latent.feat)
        if deterministic or not sample:
            return ActState(latent, policy.sample(None))
        action = policy.sample(actor.draw_noise((count,), generator))
        sizes = self.spec.action.sizes if self.spec.action.kind == "discrete" else None
        return ActState(latent, noisy_action(action, self.config.behavior.actor.exploration_noise, sizes, generator))

    def _decide_by_name(self, inputs: dict[str, Tensor], scalars: Scalars) -> dict[str, Tensor]:
        return _by_name(self._decide(inputs, _from_names(inputs), False, True, self.generator))


def _by_name(state: ActState) -> dict[str, Tensor]:
    parts = {**state.latent._asdict(), "action": state.action}
    return {f"state/{name}": part for name, part in parts.items()}


def _from_names(tensors: dict[str, Tensor]) -> ActState:
    latent = State(*(tensors[f"state/{name}"] for name in State._fields))
    return ActState(latent, tensors["state/action"])

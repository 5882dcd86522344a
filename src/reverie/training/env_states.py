"""States of environments in a checkpoint: JSON, and the bytes of their arrays as tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.collectors.collector import Collector, CollectorState
from reverie.config import EnvConfig, flatten
from reverie.envs import EnvState
from reverie.errors import CheckpointError
from reverie.replay import ReplayBuffer
from reverie.runs.checkpoint import Snapshot

ENVIRONMENTS, COLLECTOR = "environments", "collector"
"""Files of tensors in a checkpoint, next to those of the agent."""
MISSING = "the checkpoint does not have its state"
_SAME_GAME = {"num_envs", "parallel", "step_timeout", "max_restarts_per_hour"}
"""Settings that do not change what happens in an environment."""


def capture(collector: Collector, replay: ReplayBuffer) -> CollectorState | None:
    """Return the states of the environments; None if one has failed; raise EnvError if one cannot save its state."""
    state = collector.state()
    if state is None:
        return None
    # After an error between a step and its storage, an environment may be ahead of the replay.
    stored = [replay.open_steps(index) for index in range(len(state.envs))]
    return state if stored == [env.running * (env.step + 1) for env in state.envs] else None


def pack(state: CollectorState | None) -> tuple[list[Any], dict[str, dict[str, Tensor]]]:
    """Return states in JSON's types, and files of tensors; raise CheckpointError for Python objects."""
    envs, arrays = state or ([], {})
    entries, tensors = [], {}
    for index, env in enumerate(envs):
        for name, array in (env.own or {}).items():
            if array.dtype.hasobject:
                raise CheckpointError(f"An environment's save_state returned '{name}' with Python objects in it.")
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            tensors[f"{index}/{name}"] = torch.from_numpy(flat.copy())
        kinds = {name: {"dtype": a.dtype.str, "shape": list(a.shape)} for name, a in (env.own or {}).items()}
        own = None if env.own is None else kinds
        entries.append({**asdict(replace(env, own=None)), "own": own})
    copies = {name: torch.from_numpy(rows.copy()) for name, rows in arrays.items()}
    return entries, {ENVIRONMENTS: tensors, COLLECTOR: copies}


def restore(snapshot: Snapshot, config: EnvConfig, collector: Collector, replay: ReplayBuffer) -> list[str]:
    """Restore the environments, and return for each why that failed; empty if it did not."""
    entries, tensors = snapshot.state["training"][ENVIRONMENTS], snapshot.tensors[ENVIRONMENTS]
    reason = _mismatch(entries, snapshot.state["config"]["env"], config, collector.num_envs)
    if reason or not snapshot.tensors[COLLECTOR]:
        return [reason or MISSING] * collector.num_envs
    envs = []
    for index, entry in enumerate(entries):
        own = entry["own"] and {
            name: tensors[f"{index}/{name}"].numpy().view(np.dtype(kind["dtype"])).reshape(kind["shape"])
            for name, kind in entry["own"].items()
        }
        envs.append(EnvState(**{**entry, "own": own}))
    arrays = {name: tensor.numpy() for name, tensor in snapshot.tensors[COLLECTOR].items()}
    episodes = [partial(replay.latest_episode, index, env.step + 1) for index, env in enumerate(envs)]
    return collector.restore(CollectorState(envs, arrays), episodes)


def _mismatch(entries: Sequence[Any], saved: Mapping[str, Any], config: EnvConfig, num_envs: int) -> str:
    """Return why packed states with saved settings do not fit the environments of now; empty if they do."""
    if not entries:
        return MISSING
    if len(entries) != num_envs:
        return f"there were {len(entries)} environments"
    for name, value in flatten(config).items():
        then, now = (list(each) if isinstance(each, tuple) else each for each in (saved.get(name), value))
        if name not in _SAME_GAME and then != now:
            return f"env.{name} was {then}"
    return ""


def describe(problems: Sequence[str]) -> list[str]:
    """Return a message for each reason why environments could not be restored, with their number."""
    messages = []
    for reason in dict.fromkeys(problem for problem in problems if problem):
        count = problems.count(reason)
        which = "The environment" if len(problems) == 1 else f"{count} of {len(problems)} environments"
        messages.append(
            f"{which} could not be restored ({reason}). The running episode was truncated, and a new one begins. "
            "Nothing learned is lost, but the run will not equal one without the interruption bit for bit."
        )
    return messages

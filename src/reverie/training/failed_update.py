"""An update that ended a run: what it began with, in a folder, and what comes of it when it is made again.

The folder is a checkpoint of the agent before the update (see `reverie.runs.checkpoints`) with the batch, and with the
metrics of the update in its state. `reverie.load` reads it, too.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reverie import agents
from reverie.dreamer import Dreamer
from reverie.dreamer.agent import NONFINITE
from reverie.errors import CheckpointError
from reverie.runs.checkpoints import Snapshot, read_checkpoint, validate_contents, write_checkpoint

BATCH, FAILURE = "batch", "failure"
"""Names of what the folder holds beside the agent."""


def beginning(agent: Dreamer, batch: Mapping[str, Tensor], world_model_alone: bool) -> Snapshot:
    """What an update begins with, in copies that it does not change."""
    now = agents.snapshot(agent)
    tensors = {**now.tensors, BATCH: batch}
    copies = {group: {name: value.detach().clone() for name, value in part.items()} for group, part in tensors.items()}
    return Snapshot(copies, {**now.state, FAILURE: {"world_model_alone": world_model_alone}})


def write_failed_update(folder: Path, begun: Snapshot, metrics: Mapping[str, Tensor]) -> None:
    """Write what `beginning` returned, and what came of it.

    Raises:
        CheckpointError: if it cannot be written.
    """
    outcome = {name: _as_json(float(value)) for name, value in metrics.items()}
    state = {**begun.state, FAILURE: {**begun.state[FAILURE], "metrics": outcome}}
    write_checkpoint(folder, begun.state["agent_steps"], Snapshot(begun.tensors, state))


@dataclass(frozen=True)
class Numbers:
    """What a tensor holds."""

    name: str
    shape: tuple[int, ...]
    not_finite: int
    """How many of its numbers are not."""
    largest: float
    """Magnitude among the others; 0 if there are none."""


@dataclass(frozen=True)
class Repeated:
    """A failed update that was made again."""

    update: int
    """Of the updates of the run, counted from 1."""
    step: int
    """Agent steps before it."""
    world_model_alone: bool
    """Whether it was one of the pretraining, which leave actor and critic alone."""
    then: dict[str, float]
    """Metrics, when it ended the run."""
    now: dict[str, float]
    """The same, made again."""
    batch: tuple[Numbers, ...]
    weights: tuple[Numbers, ...]
    """Before the update."""
    gradients: tuple[Numbers, ...]
    """By parameter, before clipping; of the parameters that got one."""

    @property
    def same(self) -> bool:
        """Whether the metrics are the same as then, bit for bit; on another device they may differ a little."""
        return all(_equal(value, self.now.get(name, 0.0)) for name, value in self.then.items())

    @property
    def not_finite(self) -> tuple[str, ...]:
        """Metrics that are not finite now, or were not then."""
        values = [*self.now.items(), *self.then.items()]
        return tuple(dict.fromkeys(name for name, value in values if not math.isfinite(value)))

    def to_json(self) -> dict[str, Any]:
        """All of it; numbers that are not finite become the words nan, inf and -inf."""
        then, now = ({name: _as_json(value) for name, value in part.items()} for part in (self.then, self.now))
        return {**asdict(self), "then": then, "now": now, "same": self.same, "not_finite": self.not_finite}


def repeat(folder: Path, device: str | None = None) -> Repeated:
    """Make a failed update again. The folder is only read.

    Args:
        folder: written by a run that ended with a `Diverged`.
        device: None takes the run's.

    Raises:
        CheckpointError: if it is missing, damaged, or something else.
    """
    step, snapshot = read_checkpoint(folder)
    if BATCH not in snapshot.tensors or FAILURE not in snapshot.state:
        raise CheckpointError(
            f"{folder} holds no failed update: those are in the folder failures of a run that too many skipped updates "
            "have ended."
        )
    agent = agents.load_agent(folder, device)
    with validate_contents(folder):
        return _repeat(agent, step, snapshot.tensors[BATCH], snapshot.state[FAILURE])


def _repeat(agent: Dreamer, step: int, stored: Mapping[str, Tensor], failure: Mapping[str, Any]) -> Repeated:
    batch = agent.to_device(stored)
    weights = tuple(_numbers(name, value) for name, value in agent.named_parameters())
    learn = agent.train_world_model if failure["world_model_alone"] else agent.train_step
    gradients: dict[str, Numbers] = {}
    hooks = [
        parameter.register_hook(_note(name, gradients))
        for name, parameter in agent.named_parameters()
        if parameter.requires_grad
    ]
    metrics = learn(batch)
    for hook in hooks:
        hook.remove()
    return Repeated(
        update=agent.updates,
        step=step,
        world_model_alone=failure["world_model_alone"],
        then={name: float(value) for name, value in failure["metrics"].items()},
        now={name: float(value) for name, value in metrics.items() if name != NONFINITE},
        batch=tuple(_numbers(name, value) for name, value in batch.items()),
        weights=weights,
        gradients=tuple(gradients.values()),
    )


def _note(name: str, into: dict[str, Numbers]) -> Callable[[Tensor], None]:
    def note(gradient: Tensor) -> None:
        into[name] = _numbers(name, gradient)

    return note


def _numbers(name: str, tensor: Tensor) -> Numbers:
    values = tensor.detach().to(torch.float64)
    finite = values[values.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    return Numbers(name, tuple(tensor.shape), values.numel() - finite.numel(), largest)


def _as_json(value: float) -> float | str:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else str(value)


def _equal(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))

"""An update that ended a run: its start, kept in a folder, and its result when it is made again.

The folder is a checkpoint of the agent before the update (see `reverie.runs.checkpoint`) with the batch, and with the
metrics of the update in its state. `reverie.load` reads it, too.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reverie import agents
from reverie.dreamer import Dreamer
from reverie.dreamer.agent import NONFINITE
from reverie.errors import CheckpointError
from reverie.runs.checkpoint import Snapshot, read_checkpoint, validate_contents, write_checkpoint

BATCH, FAILURE = "batch", "failure"
"""Names of what the folder holds in addition to the agent."""


def beginning(agent: Dreamer, batch: Mapping[str, Tensor], world_model_alone: bool) -> Snapshot:
    """Return agent and batch of an update, in copies that it does not change."""
    now = agents.snapshot(agent)
    tensors = {**now.tensors, BATCH: batch}
    copies = {group: {name: value.detach().clone() for name, value in part.items()} for group, part in tensors.items()}
    return Snapshot(copies, {**now.state, FAILURE: {"world_model_alone": world_model_alone}})


def write_failed_update(folder: Path, begun: Snapshot, metrics: Mapping[str, Tensor]) -> None:
    """Write the result of `beginning` and the metrics of the update, or raise CheckpointError."""
    state = {**begun.state, FAILURE: {**begun.state[FAILURE], "metrics": _as_json(metrics)}}
    write_checkpoint(folder, begun.state["agent_steps"], Snapshot(begun.tensors, state))


class Numbers(NamedTuple):
    """Summary of a tensor."""

    name: str
    shape: tuple[int, ...]
    not_finite: int
    """Count of its numbers that are not."""
    largest: float
    """Magnitude among the others; 0 if there are none."""


class Repeated(NamedTuple):
    """A failed update that was made again."""

    update: int
    """Its number in the run, from 1."""
    step: int
    """Agent steps before it."""
    world_model_alone: bool
    then: dict[str, float]
    """Metrics, when it ended the run."""
    now: dict[str, float]
    batch: tuple[Numbers, ...]
    weights: tuple[Numbers, ...]
    """Before the update."""
    gradients: tuple[Numbers, ...]
    """Gradients before clipping, of the parameters that got one."""

    @property
    def same(self) -> bool:
        """True if the metrics are the same as then, bit for bit; on another device they may differ a little."""
        return all(str(value) == str(self.now.get(name, 0.0)) for name, value in self.then.items())

    @property
    def not_finite(self) -> tuple[str, ...]:
        """Metrics that are not finite now, or were not then."""
        values = [*self.now.items(), *self.then.items()]
        return tuple(dict.fromkeys(name for name, value in values if not math.isfinite(value)))

    def to_json(self) -> dict[str, Any]:
        """Return all of it; numbers that are not finite become the words nan, inf and -inf."""
        lists = {name: [entry._asdict() for entry in getattr(self, name)] for name in ("batch", "weights", "gradients")}
        metrics = {"then": _as_json(self.then), "now": _as_json(self.now)}
        return {**self._asdict(), **lists, **metrics, "same": self.same, "not_finite": self.not_finite}


def repeat(folder: Path, device: str | None = None) -> Repeated:
    """Make a failed update again, on the run's device if none is given; raise CheckpointError for another folder."""
    step, snapshot = read_checkpoint(folder)
    if BATCH not in snapshot.tensors or FAILURE not in snapshot.state:
        raise CheckpointError(
            f"{folder} holds no failed update: those are in the folder failures of a run that too many skipped updates "
            "have ended."
        )
    agent = agents.load_agent(folder, device)
    failure, gradients = snapshot.state[FAILURE], list[Numbers]()
    with validate_contents(folder):
        batch = agent.to_device(snapshot.tensors[BATCH])
        weights = tuple(_numbers(name, value) for name, value in agent.named_parameters())
        for name, parameter in agent.named_parameters():
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient, name=name: gradients.append(_numbers(name, gradient)))
        metrics = (agent.train_world_model if failure["world_model_alone"] else agent.train_step)(batch)
        return Repeated(
            update=agent.updates,
            step=step,
            world_model_alone=failure["world_model_alone"],
            then={name: float(value) for name, value in failure["metrics"].items()},
            now={name: float(value) for name, value in metrics.items() if name != NONFINITE},
            batch=tuple(_numbers(name, value) for name, value in batch.items()),
            weights=weights,
            gradients=tuple(gradients),
        )


def _numbers(name: str, tensor: Tensor) -> Numbers:
    values = tensor.detach().to(torch.float64)
    finite = values[values.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    return Numbers(name, tuple(tensor.shape), values.numel() - finite.numel(), largest)


def _as_json(metrics: Mapping[str, float | Tensor]) -> dict[str, float | str]:
    numbers = {name: float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}

"""An update that several learners make together: data parallelism without approximation.

Each learner holds the whole agent and gets a part of each batch, a share of its sequences. What is linear in the batch
is computed on the part and averaged: gradients, before their norm is taken, and metrics. What is not is averaged before
it is used: the KL that is compared with free nats, the statistics of vectors and rewards, and whether the numbers are
finite. Noise is drawn for the whole batch by every learner, from the same generator, and cut. So the result is that of
one learner but for the order of summation.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from reverie.dreamer import Dreamer, State
from reverie.dreamer.agent import Metrics
from reverie.dreamer.encoder_decoder import VectorNorm
from reverie.dreamer.heads import RewardNorm
from reverie.dreamer.imagination import ImaginationNoise
from reverie.dreamer.optimizer import Optimizer
from reverie.dreamer.world_model import WorldModel
from reverie.errors import RunError
from reverie.scaling.group import Group

CHECK_EVERY = 100
"""Updates between two comparisons of the learners' weights."""
STD, MEAN = "_std", "_mean"
"""Ends of the names of metrics that belong together."""


class Call(NamedTuple):
    """An update, as the first learner announces it to the others."""

    name: str
    """`train_step` or `train_world_model`."""
    arguments: dict[str, Any]
    agent_steps: int
    layout: dict[str, tuple[tuple[int, ...], torch.dtype]]
    """Shape and dtype of each learner's part of the batch, by key."""
    is_checked: bool
    """Compare the learners' weights afterwards."""


class SharedDreamer(Dreamer):
    """`Dreamer` whose updates are shared by the learners of a group. The first one has the batch and calls the others.

    Between updates the first learner's `carry` is that of the whole batch, so that nothing outside notices the others.
    """

    group: Group
    is_synchronized: bool
    """True after the first learner's state has been sent to the others."""
    is_updating: bool
    """True during an update, when the others cannot be called."""
    is_dividing: bool
    """True while a batch is divided. At other times, as in a validation, a loss is of the whole batch."""
    part: State | None
    """This learner's part of the carried state."""

    def train_step(self, batch: Mapping[str, Tensor], *, sample: bool = True) -> Metrics:
        """Update world model, actor and critic once, see `Dreamer.train_step`; the whole batch is divided."""
        return self._lead("train_step", batch, sample=sample)

    def train_world_model(self, batch: Mapping[str, Tensor]) -> Metrics:
        """Update the world model alone, see `Dreamer.train_world_model`; the whole batch is divided."""
        return self._lead("train_world_model", batch)

    def follow(self) -> None:
        """Make the updates that the first learner calls for, until it ends."""
        synchronize(self)
        while (call := self.group.receive()) is not None:
            self._update(call, {})
            if call.is_checked:
                check_replicas(self)

    def end(self) -> None:
        """Let the other learners end, between two updates."""
        if not self.is_synchronized:
            synchronize(self)
        self.group.send(None)

    def _lead(self, name: str, batch: Mapping[str, Tensor], **arguments: Any) -> Metrics:
        if not self.is_synchronized:
            synchronize(self)
            self.is_synchronized = True
        size = self.group.size
        self._start_carry(batch["is_first"].shape[1])
        layout = {
            key: ((len(value), value.shape[1] // size, *value.shape[2:]), value.dtype) for key, value in batch.items()
        }
        is_checked = (self.updates + 1) % CHECK_EVERY == 0
        call = Call(name, arguments, self.agent_steps, layout, is_checked)
        self.is_updating = True  # and stays True after an error
        self.group.send(call)
        metrics = self._update(call, batch)
        self.is_updating = False
        if is_checked:
            check_replicas(self)
        return metrics

    def _start_carry(self, batch_size: int) -> None:
        if batch_size % self.group.size:
            raise RunError(f"A batch of {batch_size} sequences cannot be divided among {self.group.size} learners.")
        if self.carry is None or len(self.carry.deter) != batch_size:
            self.carry = self.world_model.rssm.initial((batch_size,))

    def _update(self, call: Call, batch: Mapping[str, Tensor]) -> Metrics:
        group, whole = self.group, self.carry
        part = group.scatter(batch, call.layout, dim=1)
        batch_size = part["is_first"].shape[1]
        if self.part is None or len(self.part.deter) != batch_size:
            self.part = self.world_model.rssm.initial((batch_size,))
        carried = self.part._asdict()
        layout = {key: (tuple(value.shape), value.dtype) for key, value in carried.items()}
        received = group.scatter({} if whole is None else whole._asdict(), layout, dim=0, device=self.device)
        for key, value in carried.items():  # in place: a recorded update reads these tensors
            value.copy_(received[key])
        self.agent_steps = call.agent_steps
        try:
            self.carry, self.is_dividing = self.part, True
            metrics = cast(Metrics, getattr(super(), call.name)(part, **call.arguments))
            parts = group.gather(carried, layout)
        finally:
            self.carry, self.is_dividing = whole, False
        if whole is not None:
            for key, value in whole._asdict().items():
                value.copy_(torch.cat([gathered[key] for gathered in parts]))
        return average_metrics(group, metrics)

    def posterior_noise(self, length: int, batch_size: int) -> Tensor:
        """Draw the noise for the whole batch, and return this learner's part [T, B, …]."""
        return self.group.part(super().posterior_noise(length, batch_size * self.group.size), dim=1)

    def imagination_noise(self, num_rollouts: int) -> ImaginationNoise:
        """Draw the noise for the rollouts of the whole batch, and return this learner's part [H, N, …]."""
        assert self.carry is not None
        batch_size = len(self.carry.deter)
        noise = super().imagination_noise(num_rollouts * self.group.size)

        def own(draws: Tensor) -> Tensor:  # start states are ordered by time, then by sequence
            draws = draws.unflatten(1, (num_rollouts // batch_size, batch_size * self.group.size))
            return self.group.part(draws, dim=2).flatten(1, 2)

        return ImaginationNoise(own(noise.latent), own(noise.action))


class SharedOptimizer(Optimizer):
    """`Optimizer` with the gradients of the whole batch: one reduction a step, before their norm."""

    group: Group

    def differentiate(self, loss: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return loss and gradients, averaged over the learners."""
        value, gradients = super().differentiate(loss)
        value, *gradients = self.group.average([value, *gradients])
        return value, gradients


class _WholeMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mean: Tensor, group: Group) -> Tensor:
        return group.average([mean])[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # that of the part: gradients are averaged later
        return gradients[0], None


@contextmanager
def shared(agent: Dreamer, group: Group) -> Iterator[SharedDreamer]:
    """Return a context in which an agent shares its updates with the other learners of a group.

    Its parts get a subclass of their class, as by `reverie.kernels.optimize`, which comes first.
    """

    def whole_mean(mean: Tensor) -> Tensor:
        is_dividing = cast(SharedDreamer, agent).is_dividing
        return _WholeMean.apply(mean, group) if is_dividing else mean  # type: ignore[no-untyped-call]

    parts = (agent, *agent.optimizers.values())
    means = [part for part in agent.modules() if isinstance(part, WorldModel | RewardNorm | VectorNorm)]
    kinds = [type(part) for part in parts]
    try:
        for part, kind in zip(parts, kinds, strict=True):
            base = SharedDreamer if part is agent else SharedOptimizer
            part.__class__ = type(f"Shared{kind.__name__}", (base, kind), {})
            cast(SharedDreamer | SharedOptimizer, part).group = group
        for module in means:
            module.whole_mean = whole_mean
        assert isinstance(agent, SharedDreamer)
        agent.is_synchronized = agent.is_updating = agent.is_dividing = False
        agent.part = None
        yield agent
    finally:
        for part, kind in zip(parts, kinds, strict=True):
            part.__class__ = kind
        for module in means:
            vars(module).pop("whole_mean", None)


def synchronize(agent: SharedDreamer) -> None:
    """Give every learner the state of the first one: weights, moments, the generator of training, counters."""
    counters = torch.tensor([agent.updates, agent.actor_critic.num_critic_updates])
    generator = agent.generator.get_state()
    moments = [value for optimizer in agent.optimizers.values() for value in optimizer.state_dict().values()]
    for tensor in (*agent.state_dict().values(), *moments, counters, generator):
        agent.group.broadcast(tensor)
    agent.generator.set_state(generator)
    agent.updates, num_critic_updates = counters.tolist()
    for actor_critic in agent.actor_critics:
        actor_critic.num_critic_updates = num_critic_updates


def check_replicas(agent: SharedDreamer) -> None:
    """Compare checksums of the bits of all learners' weights.

    Raises:
        RunError: in the first learner if they differ, as they may on processors of different kinds.
    """
    bits = [value.view(torch.int32).sum(dtype=torch.int64) for value in agent.parameters()]
    weights = torch.arange(1, len(bits) + 1, device=agent.device)
    sums = agent.group.collect((torch.stack(bits) * weights).sum())
    differing = [rank for rank, value in enumerate(sums) if value != sums[0]]
    if differing and agent.group.rank == 0:
        raise RunError(
            f"The weights of learner {differing[0]} differ from those of learner 0 after update {agent.updates:,}. "
            "The run stops, since results would depend on both. Use machines of one kind for all learners."
        )


def average_metrics(group: Group, metrics: Metrics) -> Metrics:
    """Return metrics of the whole batch: means of means, and standard deviations around the whole mean."""
    values = {name: value.double() for name, value in metrics.items()}
    for name in [name for name in values if name.endswith(STD)]:
        values[name] = values[name].square() + values[name.removesuffix(STD) + MEAN].square()
    values = dict(zip(values, group.average([torch.stack(list(values.values()))])[0], strict=True))
    for name in [name for name in values if name.endswith(STD)]:
        values[name] = (values[name] - values[name.removesuffix(STD) + MEAN].square()).clamp(min=0).sqrt()
    return {name: value.to(metrics[name].dtype) for name, value in values.items()}

"""Stand-ins for a GPU: graphs that call again, and a device that has no values."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reverie.agent import Dreamer
from reverie.config import Config
from reverie.fast.cuda_graphs import Graphed
from reverie.networks.optimizer import Optimizer
from reverie.specs import EnvSpec

Call = Callable[[], dict[str, Tensor]]
Kept = Callable[[], list[Tensor]]


class Again:
    """A recording that calls the function again, into the memory of the first time, as a graph would.

    A graph would also go on with what lay in the `kept` tensors' memory when it was recorded, wherever they are now.
    """

    def __init__(self, call: Call, kept: Kept) -> None:
        self._call = call
        self._kept = kept
        self._addresses = [tensor.data_ptr() for tensor in kept()]
        self.outputs: dict[str, Tensor] = {}
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        assert self._addresses == [tensor.data_ptr() for tensor in self._kept()], "recorded with other tensors"
        outputs = self._call()
        for name, value in outputs.items():
            self.outputs.setdefault(name, torch.empty_like(value)).copy_(value)


class AgainRecorder:
    """Notes what is run and recorded; `kept` are the tensors that the function changes in place."""

    def __init__(self, kept: Kept = list) -> None:
        self._kept = kept
        self.runs = 0
        self.recordings: list[Again] = []

    def run(self, call: Call) -> dict[str, Tensor]:
        self.runs += 1
        return call()

    def record(self, call: Call) -> Again:
        self.recordings.append(Again(call, self._kept))
        return self.recordings[-1]


def with_graph(agent: Dreamer) -> AgainRecorder:
    """Let an agent on the CPU learn as one on a GPU does."""

    def kept() -> list[Tensor]:
        moments = [value for optimizer in agent._optimizers().values() for value in optimizer.state_dict().values()]
        return [*agent.state_dict().values(), *moments, *(agent.carry or [])]

    recorder = AgainRecorder(kept)
    agent._graph = Graphed(agent._learn, agent.device, recorder, "Learning")
    return recorder


class FromTheHost(RuntimeError):
    """A tensor of the host's memory is used where all should be on the device."""


class OnTheDevice(TorchDispatchMode):
    """Raises where an operation reads host memory, and leaves out the optimizer's, which has no version without values.

    Operations that need a value of a tensor raise by themselves on the meta device.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type != "meta" for tensor in tensors) or func is torch.ops.aten.lift_fresh.default:
            raise FromTheHost(f"{func} reads host memory")
        if "_fused_adam_" in str(func):
            return None
        return func(*args, **(kwargs or {}))


def without_values(config: Config, spec: EnvSpec, monkeypatch: pytest.MonkeyPatch) -> Dreamer:
    """An agent on the meta device, where tensors have shapes and no values."""

    def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand(shape, device="meta")

    for module in ("reverie.world_model.latents", "reverie.behavior.networks", "reverie.networks.distributions"):
        monkeypatch.setattr(f"{module}.draw_uniform", draw)
        monkeypatch.setattr(f"{module}.draw_normal", draw)
    agent = Dreamer(config, spec).to("meta")
    monkeypatch.setattr(agent, "_autocast", nullcontext)  # knows no such device
    agent.device = torch.device("meta")
    agent.model_optimizer = Optimizer([agent.world_model], config.world_model.optimizer)
    agent.actor_optimizer = Optimizer([agent.behavior.actor], config.behavior.actor.optimizer)
    agent.critic_optimizer = Optimizer([agent.behavior.critic], config.behavior.critic.optimizer)
    return agent


@contextmanager
def raises_on_host() -> Iterator[None]:
    """Expect the error by which looking at a value shows itself."""
    with pytest.raises(RuntimeError, match=r"[Mm]eta|host"):
        yield

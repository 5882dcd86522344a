"""An update as one CUDA graph: recorded once, then replayed by a single launch (experimental: no GPU has run this).

A graph repeats the same kernels on the same addresses. So inputs and scheduled values are copied to fixed tensors
first, and everything that an update changes (weights, moments, the carried state) is changed in place. The update reads
no value of a tensor, and its random generator is registered with the graph.
"""

import functools
from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

from reverie.dreamer.agent import Dreamer, Metrics
from reverie.dreamer.layers import ScheduledValues

WARM_UP = 3
"""Updates before the one that is recorded, in which libraries are initialised and kernels chosen."""


class GraphedDreamer(Dreamer):
    """`Dreamer` whose update is recorded at the fourth call, and again when shapes change."""

    def update(self, steps: dict[str, Tensor], values: ScheduledValues, sample: bool = True) -> Metrics:
        """Update world model, actor and critic, see `Dreamer.update`."""
        if not sample:
            return super().update(steps, values, sample)
        if "graph" not in vars(self):
            self.graph = Graph(super().update, self.device, self.generator)
        assert self.carry is not None
        return self.graph(steps, values, tuple(part.data_ptr() for part in self.carry))


def has_plain_update(kind: type[Dreamer]) -> bool:
    """Return whether a class of agents updates as `Dreamer` does."""
    methods = ("update", "update_world_model", "update_heads", "update_actor_critic", "update_explorer")
    return all(getattr(kind, name) is getattr(Dreamer, name) for name in methods)


def graphed(kind: type[Dreamer]) -> type[GraphedDreamer]:
    """Return the class of agents of this class whose update is recorded."""
    return GraphedDreamer if kind is Dreamer else type(f"Graphed{kind.__name__}", (GraphedDreamer, kind), {})


class Graph:
    """A recorded function of tensors by name.

    Args:
        function: takes inputs and values, and returns tensors. A value of zero is passed as a number, since the
            function may leave out what is multiplied by it; the others are passed as tensors.
        device: a CUDA device.
        generator: source of all random numbers of the function.
    """

    def __init__(
        self, function: Callable[..., dict[str, Tensor]], device: torch.device, generator: torch.Generator
    ) -> None:
        self._function, self._device, self._generator = function, device, generator
        self._key: Hashable = None

    def __call__(self, inputs: Mapping[str, Tensor], values: ScheduledValues, state: Hashable) -> dict[str, Tensor]:
        """Call the function.

        Args:
            inputs: tensors on the device.
            values: numbers.
            state: changes when tensors that the function keeps are replaced by others.

        Returns:
            The function's result, in tensors that later calls do not change.

        Raises:
            RuntimeError: if the function cannot be recorded.
        """
        shapes = tuple((name, value.shape, value.dtype) for name, value in inputs.items())
        key = (shapes, tuple((name, value == 0) for name, value in values.items()), state)
        if key != self._key:
            self._key, self._num_calls = key, 0
            self._inputs = {name: torch.empty_like(value) for name, value in inputs.items()}
            self._values = {
                name: torch.empty((), device=self._device) if value else 0.0 for name, value in values.items()
            }
        for name, value in inputs.items():
            self._inputs[name].copy_(value)
        for name, slot in self._values.items():
            if isinstance(slot, Tensor):
                slot.fill_(values[name])
        if self._num_calls < WARM_UP:
            outputs = self.run()
        else:
            if self._num_calls == WARM_UP:
                self._replay, self._outputs = self.record()
            self._replay()
            outputs = self._outputs
        self._num_calls += 1
        return {name: output.clone() for name, output in outputs.items()}

    @functools.cached_property
    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self._device)

    def run(self) -> dict[str, Tensor]:
        """Call the function on the stream that records."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = self._function(self._inputs, self._values)
        current.wait_stream(self._stream)
        return outputs

    def record(self) -> tuple[Callable[[], None], dict[str, Tensor]]:
        """Return a function that repeats this call, and where it leaves the results."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        try:
            # Other threads may use the device meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                outputs = self._function(self._inputs, self._values)
        except RuntimeError as error:
            raise RuntimeError(
                f"The update could not be recorded as a CUDA graph ({error}). Set --training.cuda-graphs false."
            ) from error
        return graph.replay, outputs

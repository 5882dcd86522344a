"""A function of tensors as one CUDA graph: recorded once, then repeated with a single launch.

A graph repeats the same kernels on the same addresses. So inputs are copied to fixed places; numbers that change lie in
one small tensor, which is refreshed before each repetition; whatever the function keeps between calls (weights,
moments, a carried state) it changes in place; and its random generators are known to the graph, which moves them on as
the function itself would. The function must look at no value of a tensor.

The first calls run without a graph, on the stream that will record, so that libraries are set up and kernels chosen.
They count like all others: no work is repeated or undone, and the results do not depend on when recording begins.

Checked on a CPU only, with a stand-in that calls the function again where a graph would be repeated.
"""

import threading
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
Function = Callable[[dict[str, Tensor], Mapping[str, float | Tensor]], dict[str, Tensor]]
"""Inputs and numbers to outputs, all by name."""

WARM_UP = 3
"""Calls before the one that records."""
_ONE_AT_A_TIME = threading.Lock()
"""Held while recording, which begins by waiting for the whole device: that would break another thread's recording."""


@runtime_checkable
class Recording(Protocol):
    """A recorded call."""

    outputs: dict[str, Tensor]
    """Where each repetition leaves its results."""

    def replay(self) -> None:
        """Repeat it."""


@runtime_checkable
class Recorder(Protocol):
    """Runs and records calls; a test may put another one in the place of CUDA's."""

    def run(self, call: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Call without recording."""

    def record(self, call: Callable[[], dict[str, Tensor]]) -> Recording:
        """Record a call, which leaves no results yet."""


class CudaRecorder:
    """Calls and recordings on a stream of their own.

    Args:
        device: a CUDA device.
        generators: all that the function draws from.
    """

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]) -> None:
        self._generators = generators
        self._stream = torch.cuda.Stream(device)

    def run(self, call: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Call on the recording stream; the current stream waits for the results."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = call()
        current.wait_stream(self._stream)
        return outputs

    def record(self, call: Callable[[], dict[str, Tensor]]) -> Recording:
        """Record; other threads may use the device meanwhile.

        Raises:
            RuntimeError: if the call does what cannot be recorded, such as looking at a value. The generators are then
                as they were.
        """
        states = [generator.get_state() for generator in self._generators]
        try:
            # The outer context gives the thread its own stream back where the inner one fails to.
            with _ONE_AT_A_TIME, torch.cuda.stream(self._stream):
                return _CudaRecording(call, self._stream, self._generators)
        except Exception:
            for generator, state in zip(self._generators, states, strict=True):
                _replace_state(generator, state)
            raise


class _CudaRecording:
    def __init__(
        self,
        call: Callable[[], dict[str, Tensor]],
        stream: torch.cuda.Stream,
        generators: Sequence[torch.Generator],
    ) -> None:
        self._graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self._graph.register_generator_state(generator)
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self.outputs = call()

    def replay(self) -> None:
        self._graph.replay()


def _replace_state(generator: torch.Generator, state: Tensor) -> None:
    """A new inner state: the one of a recording that failed still waits for its end, and can draw nothing."""
    fresh = torch.Generator(generator.device)
    fresh.set_state(state)
    generator.graphsafe_set_state(fresh.graphsafe_get_state())


class Graphed:
    """A function that is recorded at its fourth call, and again whenever the shapes of its inputs change.

    Where recording fails it says so once and runs the function as it is from then on.

    Args:
        function: takes inputs and numbers by name, and returns tensors. A number that is zero reaches it as it is,
            since a function may leave out what it would multiply; the others as tensors without axes.
        device: where the inputs go.
        recorder: CUDA's, or a stand-in.
        name: of what the function does, for messages.
    """

    def __init__(self, function: Function, device: torch.device, recorder: Recorder, name: str) -> None:
        self._function = function
        self._device = device
        self._recorder = recorder
        self._name = name
        self._failed = False
        self.forget()

    def forget(self) -> None:
        """Drop the recording: tensors that the function keeps are others than before."""
        self._key: Hashable = None
        self._slots: _Slots | None = None
        self._recording: Recording | None = None
        self._calls = 0

    @property
    def recorded(self) -> bool:
        """Whether the next call of the same shapes is a repetition."""
        return self._recording is not None

    def __call__(self, inputs: Tensors, numbers: Mapping[str, float]) -> dict[str, Tensor]:
        """Call the function.

        Args:
            inputs: on any device; the same names, shapes and dtypes every time, or else it is recorded anew.
            numbers: finite or not, with the same names every time.

        Returns:
            What the function returns, in tensors that later calls leave alone.
        """
        key = _structure(inputs, numbers)
        if key != self._key:
            self.forget()
            self._key, self._slots = key, _Slots(inputs, numbers, self._device)
        assert self._slots is not None
        self._slots.fill(inputs, numbers)
        if self._recording is None and self._calls >= WARM_UP and not self._failed:
            self._record()
        if self._recording is None:
            self._calls += 1
            return _copies(self._call() if self._failed else self._recorder.run(self._call))
        self._recording.replay()
        return _copies(self._recording.outputs)

    def _call(self) -> dict[str, Tensor]:
        assert self._slots is not None
        return self._function(self._slots.inputs, self._slots.scalars)

    def _record(self) -> None:
        try:
            self._recording = self._recorder.record(self._call)
        except Exception as error:
            self._failed = True
            warnings.warn(
                f"{self._name} goes on without a CUDA graph, which computes the same but takes longer: recording "
                f"failed ({_first_cause(error)}). --training.cuda-graphs false leaves this message out.",
                RuntimeWarning,
                stacklevel=4,
            )


class _Slots:
    """The fixed places of inputs and numbers."""

    def __init__(self, inputs: Tensors, numbers: Mapping[str, float], device: torch.device) -> None:
        self.inputs = {name: torch.empty_like(value, device=device) for name, value in inputs.items()}
        self._changing = [name for name, value in numbers.items() if value != 0]
        self._values = torch.zeros(len(self._changing), device=device)
        views = dict(zip(self._changing, self._values.unbind(), strict=True))
        self.scalars: dict[str, float | Tensor] = {name: views.get(name, 0.0) for name in numbers}

    def fill(self, inputs: Tensors, numbers: Mapping[str, float]) -> None:
        """Copy, without waiting; memory that is pinned must stay as it is until the copy is over."""
        for name, value in inputs.items():
            self.inputs[name].copy_(value, non_blocking=True)
        if self._changing:
            # PyTorch does not give this piece of pinned memory to others before the copy is over.
            pinned = torch.tensor([numbers[name] for name in self._changing], pin_memory=self._values.is_cuda)
            self._values.copy_(pinned, non_blocking=True)


def _structure(inputs: Tensors, numbers: Mapping[str, float]) -> Hashable:
    shapes = tuple((name, value.shape, value.dtype) for name, value in inputs.items())
    return shapes, tuple((name, value == 0) for name, value in numbers.items())


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that nothing overwrites: an output may be memory of the graph, or one of the numbers."""
    copies = {name: torch.empty_like(value) for name, value in tensors.items()}
    torch._foreach_copy_(list(copies.values()), list(tensors.values()))
    return copies


def _first_cause(error: BaseException) -> str:
    """What went wrong first: the end of a failed recording raises an error of its own."""
    while error.__context__ is not None:
        error = error.__context__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

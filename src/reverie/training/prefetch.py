"""The next batch is drawn in a thread while the learner is busy with this one.

What is drawn does not depend on timing. Batches come in the order in which they are asked for, from one random
generator that is not used elsewhere meanwhile, and only while the caller iterates, who adds nothing to the replay until
the last batch is there. So every batch may contain exactly what was stored before the first one. Where updates come one
at a time there is nothing to draw ahead: drawing the next batch before the next steps are stored would save a
millisecond or two, and would change what it can contain.

The parts for a GPU were checked on a CPU only.
"""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = dict[str, NDArray[np.generic]]
Sample = Callable[[Arrays | None], Arrays]
"""Fills the given arrays with a batch, or new ones, and returns them."""


class Prefetcher:
    """Fills one of two sets of arrays while the other is used, and copies it to the learner's device."""

    def __init__(self, sample: Sample, device: torch.device) -> None:
        self._sample = sample
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._sets = [_CudaSet(stream) if stream else _Set() for _ in range(2)]

    def batches(self, count: int) -> Generator[dict[str, Tensor], None, None]:
        """Draw `count` batches; while one is used the next is drawn.

        A batch is valid until the next but one is asked for. An iteration that is broken off loses the batch that was
        being drawn.

        Raises:
            ReplayError: as drawing raises it.
        """
        ahead: Future[None] | None = None
        try:
            for index in range(count):
                current = self._sets[index % 2]
                if ahead is None:
                    ahead = self._thread.submit(current.fill, self._sample)
                ahead.result()
                ahead = None
                if index + 1 < count:
                    ahead = self._thread.submit(self._sets[(index + 1) % 2].fill, self._sample)
                try:
                    yield current.take()
                finally:
                    current.release()
        finally:
            if ahead is not None:
                wait([ahead])

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


class _Set:
    """Arrays that a batch is drawn into, again and again."""

    _arrays: Arrays | None = None

    def fill(self, sample: Sample) -> None:
        self._arrays = sample(self._arrays)

    def take(self) -> dict[str, Tensor]:
        assert self._arrays is not None
        return {key: torch.from_numpy(array) for key, array in self._arrays.items()}

    def release(self) -> None:
        """Note that all uses of the batch were queued."""


class _CudaSet(_Set):
    """Arrays in pinned memory, and the same on the device."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._pinned: dict[str, Tensor] = {}
        self._tensors: dict[str, Tensor] = {}
        self._copied = torch.cuda.Event()
        self._used = torch.cuda.Event()

    def fill(self, sample: Sample) -> None:
        if not self._pinned:
            self._pinned = {key: torch.from_numpy(array).pin_memory() for key, array in sample(None).items()}
            self._arrays = {key: tensor.numpy() for key, tensor in self._pinned.items()}
            self._tensors = {key: torch.empty_like(t, device=self._stream.device) for key, t in self._pinned.items()}
        else:
            self._copied.synchronize()
            super().fill(sample)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used)
            for key, tensor in self._tensors.items():
                tensor.copy_(self._pinned[key], non_blocking=True)
            self._copied.record()

    def take(self) -> dict[str, Tensor]:
        torch.cuda.current_stream(self._stream.device).wait_event(self._copied)
        return self._tensors

    def release(self) -> None:
        self._used.record(torch.cuda.current_stream(self._stream.device))

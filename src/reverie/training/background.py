"""Where environments are stepped: in a thread of their own, beside the learner, or in the learner's."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

PATIENCE = 5.0
"""Seconds that closing waits for work that does not end."""

Result = TypeVar("Result")


@runtime_checkable
class Worker(Protocol):
    """Does one piece of work after the other."""

    def start(self, work: Callable[[], Result]) -> "Future[Result]":
        """Begin; the future has the result, or raises what the work raised."""

    def close(self) -> None:
        """No more work comes."""


class Inline:
    """Work is done at once, in the thread that asks for it."""

    def start(self, work: Callable[[], Result]) -> "Future[Result]":
        """Do it; what it raises is raised here."""
        future: Future[Result] = Future()
        future.set_result(work())
        return future

    def close(self) -> None:
        """Nothing is to be done."""


class Background:
    """Work is done in one thread, always the same: what environments draw with often belongs to a thread.

    There PyTorch computes with one CPU thread, since a second team of them would fight with the learner's for the same
    cores, and on a GPU in a stream of its own, in which work begins when what the caller has queued so far is done.

    Args:
        device: where the work computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon: an environment that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._work, name="environments", daemon=True)
        threads = torch.get_num_threads()
        self._thread.start()
        self.start(_compute_alone).result()
        torch.set_num_threads(threads)

    def start(self, work: Callable[[], Result]) -> "Future[Result]":
        """Begin, and return at once."""
        future: Future[Result] = Future()
        queued = None if self._stream is None else torch.cuda.current_stream(self._device).record_event()

        def job() -> None:
            try:
                if self._stream is not None and queued is not None:
                    self._stream.wait_event(queued)
                result = work()
                if self._stream is not None:
                    self._stream.synchronize()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._jobs.put(job)
        return future

    def close(self) -> None:
        """End the thread; one whose work does not end is left behind."""
        self._jobs.put(None)
        self._thread.join(PATIENCE)

    def _work(self) -> None:
        stream: Any = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        # Whoever leaves the outermost autocast of a thread empties the cache of converted weights of all threads, and
        # the learner would convert again, at moments that depend on timing. Here the outermost one is never left.
        with stream, torch.autocast(self._device.type, enabled=False):
            while (job := self._jobs.get()) is not None:
                job()


def _compute_alone() -> None:
    """Give the calling thread one CPU thread.

    PyTorch's number belongs to a thread, but the last one that any thread has set is taken over by each thread at its
    first question or computation. So this one asks before it sets, and the caller sets its own again afterwards.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)

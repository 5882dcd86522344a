"""A thread that calls functions one after the other."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

CLOSE_TIMEOUT = 5.0
"""Seconds that closing waits for a call that hangs."""

Result = TypeVar("Result")


class EnvThread:
    """Calls functions in a thread of its own, in order.

    There PyTorch computes with one CPU thread, since a second team of them would fight with the learner's for the same
    cores, and on a GPU in a stream of its own, in which a call begins when what the caller has queued is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._calls: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        # A daemon: an environment that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._serve, name="environments", daemon=True)
        # A thread takes over the number that any thread has set last, at its first question. So this one asks before it
        # sets its own, and the caller's is set again afterwards.
        threads = torch.get_num_threads()
        self._thread.start()
        self.submit(torch.get_num_threads).result()
        self.submit(partial(torch.set_num_threads, 1)).result()
        torch.set_num_threads(threads)

    def submit(self, function: Callable[[], Result]) -> "Future[Result]":
        """Call a function in the thread, and return at once."""
        future: Future[Result] = Future()
        queued = torch.cuda.current_stream(self._device).record_event() if self._stream else None
        self._calls.put((function, future, queued))
        return future

    def close(self) -> None:
        """End the thread; one whose call does not end is left behind."""
        self._calls.put(None)
        self._thread.join(CLOSE_TIMEOUT)

    def _serve(self) -> None:
        stream: Any = torch.cuda.stream(self._stream) if self._stream else nullcontext()
        # The end of a thread's outermost autocast empties the cache of converted weights of all threads, and the
        # learner would convert again, at moments that depend on timing. Here the outermost one never ends.
        with stream, torch.autocast(self._device.type, enabled=False):
            while (call := self._calls.get()) is not None:
                self._run(*call)

    def _run(self, function: Callable[[], Result], future: "Future[Result]", queued: torch.cuda.Event | None) -> None:
        try:
            if self._stream and queued:
                self._stream.wait_event(queued)
            result = function()
            if self._stream:
                self._stream.synchronize()
            future.set_result(result)
        except BaseException as error:
            future.set_exception(error)

"""Ctrl-C, SIGTERM, and the end of the terminal: finish the step, save, stop."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal, after a checkpoint; `str()` says where it is, and how to continue."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = number


class StopSignal:
    """While active, the first SIGINT, SIGTERM or SIGHUP is only noted, and a second one stops at once.

    `requested` is true once one has arrived, and `signal` is its number; `notify` is called then. SIGHUP stays ignored
    where it was (`nohup`).
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self.requested = False
        self.signal: int = signal.SIGINT
        self._notify = notify
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            kinds = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
            if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
                kinds.remove(signal.SIGHUP)
            self._previous = {kind: signal.signal(kind, self._handle) for kind in kinds}
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._previous.items():
            signal.signal(kind, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt("Stopped at once, without a checkpoint. Continue with --resume from the last one.")
        self.requested = True
        self.signal = number
        self._notify()

"""Ctrl-C, SIGTERM, and the end of the terminal: finish the step, save, stop."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Stopped(KeyboardInterrupt):
    """Training was stopped from outside, after saving.

    Args:
        words: where it was saved, and how to go on; `str()` gives them.
        number: the signal that stopped it.
    """

    def __init__(self, words: str, number: int = signal.SIGINT) -> None:
        super().__init__(words)
        self.signal = number


class StopRequest:
    """While active, the first SIGINT, SIGTERM or SIGHUP is only noted, and a second one stops at once.

    `requested` says whether one has arrived, and `signal` which. SIGHUP stays ignored where it was (`nohup`).

    Args:
        notify: called when the first one arrives.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self.requested = False
        self.signal: int = signal.SIGINT
        self._notify = notify
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if kind == signal.SIGHUP and signal.getsignal(kind) == signal.SIG_IGN:
                    continue
                self._previous[kind] = signal.signal(kind, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._previous.items():
            signal.signal(kind, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt("Stopped at once, without a checkpoint; --resume goes on from the last one.")
        self.requested = True
        self.signal = number
        self._notify()

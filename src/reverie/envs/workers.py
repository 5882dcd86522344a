"""Worker processes that step environments.

A worker is a fresh interpreter, not a fork: the learner's threads and GPU stay out
of it, and scripts need no `if __name__ == "__main__"`. It has a session of its own, so that Ctrl-C in the terminal
reaches the learner only, and it ends when its connection to the learner does.

Messages go between our own processes only. Those of every step are plain bytes: RESET or STEP and the mask or the
actions; STEP and the arrays (see `StepLayout`). Others are pickled: the functions that create the environments, and
the answer, what they offer; ERROR, its message and trace.
"""

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import cv2
import numpy as np

from reverie.envs.batched import LocalGroup, RunnerFactory, StepLayout
from reverie.errors import EnvError
from reverie.spaces import Array, EnvSpec, Step

RESET, STEP, PICKLED, ERROR = b"R", b"S", b"P", b"E"
"""The first byte of a message."""

SUPPORTED = hasattr(os, "fork")
"""File descriptors can be handed to a new process on POSIX systems only."""

_SINGLE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
}
_PROGRAM = "import sys; sys.path[:] = {path!r}; from reverie.envs.workers import main; main({file_descriptor})"
_CLOSE_SECONDS = 5.0


class RemoteGroup:
    """Environments in a worker process; the constructor returns before they are ready, `wait_ready` does not."""

    spec: EnvSpec

    def __init__(self, factories: Sequence[RunnerFactory], label: str) -> None:
        self._label = label
        try:
            pickled = cloudpickle.dumps(list(factories))
        except Exception as error:
            raise EnvError(
                f"The function that creates the environment cannot be sent to a worker process ({error}); create "
                "everything inside the function, or set env.parallel to False."
            ) from error
        here, there = socket.socketpair()
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(path=_import_path(), file_descriptor=there.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[there.fileno()],
                start_new_session=True,
                env={**os.environ, **_SINGLE_THREAD},
            )
        self._pipe = Connection(here.detach())
        self._count = len(factories)
        self._send(PICKLED + pickled)

    def wait_ready(self) -> None:
        """Wait until the environments exist.

        Raises:
            EnvError: if one cannot be created.
        """
        self.spec = pickle.loads(self._receive())
        self._layout = StepLayout(self.spec, self._count)

    def send_reset(self, mask: Array) -> None:
        """Begin to reset the environments in the mask `[n]`."""
        self._send(RESET + mask.tobytes())

    def send_step(self, action: Array) -> None:
        """Begin to step all environments with the actions `[n, A]`."""
        self._send(STEP + action.tobytes())

    def receive(self) -> Step:
        """Wait for the latest steps `[n, …]`.

        Raises:
            EnvError: if an environment failed, or the process died.
        """
        # A copy, since the bytes of a message cannot be written to.
        return self._layout.arrays(np.frombuffer(self._receive(), np.uint8).copy())

    def close(self) -> None:
        """Close the environments and end the process."""
        self._pipe.close()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _send(self, message: bytes) -> None:
        # Where the worker has died, the receive that follows says so.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send_bytes(message)

    def _receive(self) -> memoryview:
        """The content of an answer."""
        try:
            answer = memoryview(self._pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise EnvError(f"The worker process of {self._label} died ({self._exit_status()}).") from None
        if answer[:1] == ERROR:
            message, trace = pickle.loads(answer[1:])
            error = EnvError(message)
            error.add_note(f"In the worker process:\n{trace}")
            raise error
        return answer[1:]

    def _exit_status(self) -> str:
        try:
            code = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"


def _import_path() -> list[str]:
    """Where the worker finds this package, and the environment's own modules."""
    return [path or os.getcwd() for path in sys.path]


def _die_with_parent() -> None:
    """End this process at once when the learner's end of stdin closes, even in the middle of a step."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _serve(pipe: Connection) -> None:
    group: LocalGroup | None = None
    try:
        while True:
            message = pipe.recv_bytes()
            try:
                if group is None:
                    group = LocalGroup(pickle.loads(message[1:]))
                    reply = np.frombuffer(STEP + bytes(group.layout.size), np.uint8).copy()
                    answer: Any = PICKLED + cloudpickle.dumps(group.spec)
                else:
                    _send_on(group, message)
                    group.receive_into(reply[1:])
                    answer = reply
            except EnvError as error:
                answer = ERROR + pickle.dumps((str(error), traceback.format_exc()))
            except Exception as error:
                text = f"The environment's worker process failed: {type(error).__name__}: {error}."
                answer = ERROR + pickle.dumps((text, traceback.format_exc()))
            pipe.send_bytes(answer)
    except (EOFError, OSError):
        pass  # the learner has closed, or is gone
    finally:
        if group is not None:
            group.close()


def _send_on(group: LocalGroup, message: bytes) -> None:
    """Begin what the learner asks for."""
    if message[:1] == RESET:
        group.send_reset(np.frombuffer(message[1:], np.bool_))
    else:
        group.send_step(np.frombuffer(message[1:], np.float32).reshape(-1, group.spec.action.size).copy())


def main(file_descriptor: int) -> None:
    """Serve environments on the connection with this file descriptor, until it closes."""
    cv2.setNumThreads(0)
    _die_with_parent()
    _serve(Connection(file_descriptor))

"""Worker processes that step environments.

A worker is a fresh interpreter, not a fork: the learner's threads and GPU stay out
of it, and scripts need no `if __name__ == "__main__"`. It has a session of its own, so that Ctrl-C in the terminal
reaches the learner only, and it ends when its connection to the learner does. Messages are pickled, between our own
processes only.
"""

import contextlib
import os
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

from reverie.envs.batched import LocalGroup, RunnerFactory
from reverie.errors import EnvError
from reverie.spaces import Array, EnvSpec, Step

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
        self._send(("create", pickled))

    def wait_ready(self) -> None:
        """Wait until the environments exist.

        Raises:
            EnvError: if one cannot be created.
        """
        self.spec = self._receive()

    def send_reset(self, mask: Array) -> None:
        """Begin to reset the environments in the mask `[n]`."""
        self._send(("reset", mask))

    def send_step(self, action: Array) -> None:
        """Begin to step all environments with the actions `[n, A]`."""
        self._send(("step", action))

    def receive(self) -> Step:
        """Wait for the latest steps `[n, …]`.

        Raises:
            EnvError: if an environment failed, or the process died.
        """
        step: Step = self._receive()
        return step

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

    def _send(self, message: Any) -> None:
        # Where the worker has died, the receive that follows says so.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(message)

    def _receive(self) -> Any:
        try:
            kind, *content = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise EnvError(f"The worker process of {self._label} died ({self._exit_status()}).") from None
        if kind == "error":
            message, trace = content
            error = EnvError(message)
            error.add_note(f"In the worker process:\n{trace}")
            raise error
        return content[0]

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
            kind, *content = pipe.recv()
            try:
                if kind == "create":
                    group = LocalGroup(cloudpickle.loads(content[0]))
                    reply: tuple[Any, ...] = ("spec", group.spec)
                else:
                    assert group is not None
                    (group.send_reset if kind == "reset" else group.send_step)(content[0])
                    reply = ("step", group.receive())
            except EnvError as error:
                reply = ("error", str(error), traceback.format_exc())
            except Exception as error:
                message = f"The environment's worker process failed: {type(error).__name__}: {error}."
                reply = ("error", message, traceback.format_exc())
            pipe.send(reply)
    except (EOFError, OSError):
        pass  # the learner has closed, or is gone
    finally:
        if group is not None:
            group.close()


def main(file_descriptor: int) -> None:
    """Serve environments on the connection with this file descriptor, until it closes."""
    cv2.setNumThreads(0)
    _die_with_parent()
    _serve(Connection(file_descriptor))

"""Worker processes that step environments.

A worker is a fresh interpreter, not a fork: the learner's threads and GPU stay out
of it, and scripts need no `if __name__ == "__main__"`. It has a session of its own, so that Ctrl-C in the terminal
reaches the learner only, and it ends when its connection to the learner does.

Messages are exchanged between processes of one run only. Each request has one reply. Those of every step are plain
bytes: RESET and the mask, or STEP and the actions; the reply is ARRAYS and the arrays (see `StepLayout`). Others are
pickled: the functions that create the environments, and as the reply their spec; CALL, a method of `LocalGroup` and its
arguments, and as the reply the returned value; ERROR, its message and traceback.
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
from reverie.envs.state import EnvState
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec, Step

RESET, STEP, CALL, ARRAYS, PICKLED, ERROR = b"R", b"S", b"C", b"A", b"P", b"E"
"""The first byte of a message."""

SUPPORTED = hasattr(os, "fork")
"""File descriptors can be handed to a new process on POSIX systems only."""

_SINGLE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
}
_PROGRAM = "import sys; sys.path[:] = {path!r}; from reverie.envs.workers import main; main({file_descriptor})"
_CLOSE_SECONDS = 5.0


class RemoteGroup:
    """Environments in a worker process; the constructor returns before they are ready, `wait_ready` does not.

    Args:
        factories: of the environments.
        label: names them in messages.
        timeout: seconds that an answer may take once they are ready; 0 for no limit.
    """

    spec: EnvSpec
    down = False

    def __init__(self, factories: Sequence[RunnerFactory], label: str, timeout: float = 0.0) -> None:
        self._label = label
        self._timeout = timeout
        self._is_ready = False
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
        if not self._is_ready:
            self.spec = pickle.loads(self._receive()[1:])
            self._layout = StepLayout(self.spec, self._count)
            self._is_ready = True

    def take_faults(self) -> list[EnvError]:
        """None: an error ends everything."""
        return []

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
        # A copy, since the bytes of a message are read-only.
        return self._layout.arrays(np.frombuffer(self._receive(), np.uint8, offset=1).copy())

    def states(self) -> list[EnvState]:
        """Where the environments stand."""
        states: list[EnvState] = self._call("states")
        return states

    def put_back(self, index: int, state: EnvState) -> bytes:
        """See `EnvRunner.put_back`."""
        return bytes(self._call("put_back", index, state))

    def retrace(self, index: int, actions: Array) -> bytes:
        """See `EnvRunner.retrace`."""
        return bytes(self._call("retrace", index, actions))

    def abandon(self, index: int) -> None:
        """See `EnvRunner.abandon`."""
        self._call("abandon", index)

    def stand_at(self, latest: Step) -> None:
        """These `[n, …]` were the latest steps."""
        self._call("stand_at", latest)

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

    def _call(self, method: str, *arguments: Any) -> Any:
        self._send(CALL + pickle.dumps((method, arguments)))
        return pickle.loads(self._receive()[1:])

    def _send(self, message: bytes) -> None:
        # Where the worker has died, the receive that follows says so.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send_bytes(message)

    def _receive(self) -> bytes:
        if self._is_ready and self._timeout and not self._pipe.poll(self._timeout):
            self._process.kill()
            raise EnvError(
                f"The worker process of {self._label} did not answer within {self._timeout:g} seconds "
                "(env.step_timeout) and was killed."
            )
        try:
            message = self._pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            raise EnvError(f"The worker process of {self._label} died ({self._exit_status()}).") from None
        if message[:1] == ERROR:
            text, trace = pickle.loads(message[1:])
            error = EnvError(text)
            error.add_note(f"In the worker process:\n{trace}")
            raise error
        return message

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


class _Service:
    """Environments that reply to messages in a worker process."""

    def __init__(self) -> None:
        self._group: LocalGroup | None = None

    def reply(self, request: bytes) -> bytes:
        """Do what a message requests, and return the message to send back."""
        kind, content = request[:1], request[1:]
        try:
            if self._group is None:
                self._group = LocalGroup(pickle.loads(content))
                return PICKLED + cloudpickle.dumps(self._group.spec)
            if kind == CALL:
                method, arguments = pickle.loads(content)
                return PICKLED + pickle.dumps(getattr(self._group, method)(*arguments))
            return _step(self._group, kind, content)
        except EnvError as error:
            return ERROR + pickle.dumps((str(error), traceback.format_exc()))
        except Exception as error:
            text = f"The environment's worker process failed: {type(error).__name__}: {error}."
            return ERROR + pickle.dumps((text, traceback.format_exc()))

    def close(self) -> None:
        """Close the environments."""
        if self._group is not None:
            self._group.close()


def _step(group: LocalGroup, kind: bytes, content: bytes) -> bytes:
    if kind == RESET:
        group.send_reset(np.frombuffer(content, np.bool_))
    else:
        group.send_step(np.frombuffer(content, np.float32).reshape(group.num_envs, group.spec.action.size).copy())
    reply = np.empty(1 + group.layout.size, np.uint8)
    reply[0] = ord(ARRAYS)
    group.receive_into(group.layout.arrays(reply[1:]))
    return reply.tobytes()


def _serve(pipe: Connection) -> None:
    with contextlib.closing(_Service()) as service, contextlib.suppress(EOFError, OSError):
        while True:  # until the learner has closed its end, or is gone
            pipe.send_bytes(service.reply(pipe.recv_bytes()))


def main(file_descriptor: int) -> None:
    """Serve environments on the connection with this file descriptor, until it closes."""
    cv2.setNumThreads(0)
    _die_with_parent()
    _serve(Connection(file_descriptor))

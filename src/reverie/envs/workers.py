"""Worker processes that step environments.

A worker is a fresh interpreter, not a fork: the learner's threads and GPU stay out
of it, and scripts need no `if __name__ == "__main__"`. It has a session of its own, so that Ctrl-C in the terminal
reaches the learner only, and it ends when its connection to the learner does.

Messages go between our own processes only. Those of every step are plain bytes: RESET or STEP and the mask or the
actions, or PLAN and the actions of several steps; RESET or STEP and the arrays (see `StepLayout`), for a plan once for
each step and each reset before one, several of them in a message. Others are pickled: the functions that create the
environments, and the answer, what they offer; CALL, a method of `LocalGroup` and what it is given, and the answer, what
it returns; ERROR, its message and trace.
"""

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import cv2
import numpy as np

from reverie.envs.batched import LocalGroup, Planned, RunnerFactory, StepLayout
from reverie.envs.state import EnvState
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec, Step

RESET, STEP, PLAN, CALL, PICKLED, ERROR = b"R", b"S", b"L", b"C", b"P", b"E"
"""The first byte of a message."""

SUPPORTED = hasattr(os, "fork")
"""File descriptors can be handed to a new process on POSIX systems only."""

_SINGLE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
}
_PROGRAM = "import sys; sys.path[:] = {path!r}; from reverie.envs.workers import main; main({file_descriptor})"
_CLOSE_SECONDS = 5.0
_PLAN_SECONDS = 0.005
"""Between two messages with answers to a plan: waking the learner for every single step would slow both."""


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
        self._unread = memoryview(b"")  # Answers that arrived together with an earlier one.
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
        return self._next_answer()[1]

    def send_plan(self, actions: Array) -> None:
        """Begin to take a step for each of the actions `[K, n, A]`, with resets where episodes are over."""
        self._send(PLAN + actions.tobytes())

    def receive_planned(self) -> Planned:
        """Wait for the next of these steps.

        Raises:
            EnvError: as `receive`.
        """
        kind, step = self._next_answer()
        return (step, self._next_answer()[1]) if kind == RESET else (None, step)

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

    def _next_answer(self) -> tuple[bytes, Step]:
        """RESET or STEP, and the arrays."""
        if not self._unread:
            self._unread = self._receive()
        size = 1 + self._layout.size
        answer, self._unread = self._unread[:size], self._unread[size:]
        # A copy, since the bytes of a message cannot be written to.
        return bytes(answer[:1]), self._layout.arrays(np.frombuffer(answer[1:], np.uint8).copy())

    def _receive(self) -> memoryview:
        """A message with an answer, or several."""
        if self._is_ready and self._timeout and not self._pipe.poll(self._timeout):
            self._process.kill()
            raise EnvError(
                f"The worker process of {self._label} did not answer within {self._timeout:g} seconds "
                "(env.step_timeout) and was killed."
            )
        try:
            message = memoryview(self._pipe.recv_bytes())
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
    """What a worker process does: for each message one or several that answer it."""

    def __init__(self) -> None:
        self._group: LocalGroup | None = None

    def answers(self, message: bytes) -> Iterator[bytes]:
        """The messages to send; an error is the last one."""
        try:
            if self._group is None:
                self._group = LocalGroup(pickle.loads(message[1:]))
                yield PICKLED + cloudpickle.dumps(self._group.spec)
            elif message[:1] == CALL:
                method, arguments = pickle.loads(message[1:])
                yield PICKLED + pickle.dumps(getattr(self._group, method)(*arguments))
            else:
                yield from _exchange(self._group, message[:1], message[1:])
        except EnvError as error:
            yield ERROR + pickle.dumps((str(error), traceback.format_exc()))
        except Exception as error:
            text = f"The environment's worker process failed: {type(error).__name__}: {error}."
            yield ERROR + pickle.dumps((text, traceback.format_exc()))

    def close(self) -> None:
        """Close the environments."""
        if self._group is not None:
            self._group.close()


def _exchange(group: LocalGroup, kind: bytes, content: bytes) -> Iterator[bytes]:
    """Do what the learner asks for."""
    reply = np.empty(1 + group.layout.size, np.uint8)
    batch = group.layout.arrays(reply[1:])

    def answer(kind: bytes) -> bytes:
        reply[0] = ord(kind)
        group.receive_into(batch)
        return reply.tobytes()

    if kind == RESET:
        group.send_reset(np.frombuffer(content, np.bool_))
        yield answer(RESET)
        return
    actions = np.frombuffer(content, np.float32).reshape(-1, group.num_envs, group.spec.action.size).copy()
    if kind == STEP:
        group.send_step(actions[0])
        yield answer(STEP)
        return
    waiting, due = bytearray(), time.monotonic() + _PLAN_SECONDS
    try:
        for resets in group.follow(actions):
            waiting += answer(RESET if resets else STEP)
            if time.monotonic() >= due:
                yield bytes(waiting)
                waiting, due = bytearray(), time.monotonic() + _PLAN_SECONDS
    except Exception:
        if waiting:
            yield bytes(waiting)  # The steps before the error count.
        raise
    if waiting:
        yield bytes(waiting)


def _serve(pipe: Connection) -> None:
    with contextlib.closing(_Service()) as service, contextlib.suppress(EOFError, OSError):
        while True:  # until the learner has closed its end, or is gone
            for answer in service.answers(pipe.recv_bytes()):
                pipe.send_bytes(answer)


def main(file_descriptor: int) -> None:
    """Serve environments on the connection with this file descriptor, until it closes."""
    cv2.setNumThreads(0)
    _die_with_parent()
    _serve(Connection(file_descriptor))

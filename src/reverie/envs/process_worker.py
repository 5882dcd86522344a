"""Worker processes that step environments.

A worker is a fresh interpreter, not a fork: the learner's threads and GPU stay out of it, and scripts need no
`if __name__ == "__main__"`. It has a session of its own, so that Ctrl-C in the terminal reaches the learner only, and
it ends when its connection to the learner does.

Messages are pickled and exchanged between processes of one run only. The first one holds the functions that create the
environments; its reply, their spec. Each following one is a method of `SyncWorker` and its arguments. A reply is the
result, or an error's message and traceback.
"""

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal

import cloudpickle  # type: ignore[import-untyped]
import cv2

from reverie.envs.workers import Answer, EnvBuilder, SyncWorker, Worker
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec

IS_SUPPORTED = hasattr(os, "fork")
"""True on POSIX systems, where file descriptors can be handed to a new process."""

_SINGLE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
}
_PROGRAM = "import sys; sys.path[:] = {path!r}; from reverie.envs.process_worker import main; main({file_descriptor})"
_CLOSE_SECONDS = 5.0


class ProcessWorker(Worker):
    """Environments in a worker process; they are created while the constructor returns.

    Args:
        builders: create the environments.
        label: names them in messages.
        timeout: limit in seconds of each answer after `wait_ready`; 0 for none.
    """

    def __init__(self, builders: Sequence[EnvBuilder], label: str, timeout: float = 0.0) -> None:
        self.num_envs = len(builders)
        self._label = label
        self._step_timeout = timeout
        self._timeout: float | None = None
        try:
            message = cloudpickle.dumps(list(builders))
        except Exception as error:
            raise EnvError(
                f"The function that creates the environment cannot be sent to a worker process ({error}); create "
                "everything inside the function, or set env.parallel to False."
            ) from error
        here, there = socket.socketpair()
        with there:
            path = [folder or os.getcwd() for folder in sys.path]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(path=path, file_descriptor=there.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[there.fileno()],
                start_new_session=True,
                env={**os.environ, **_SINGLE_THREAD},
            )
        self._pipe = Connection(here.detach())
        self._send(message)

    def wait_ready(self) -> EnvSpec:  # noqa: D102
        spec: EnvSpec = self._receive()
        self._timeout = self._step_timeout or None
        return spec

    def send(self, method: Literal["reset", "step"], argument: Array) -> None:  # noqa: D102
        self._send(pickle.dumps((method, argument)))

    def receive(self) -> Answer:  # noqa: D102
        rows, infos, dropped = self._receive()
        if dropped:
            warnings.warn(
                f"Entries of info cannot be pickled ({', '.join(dropped)}). They are dropped. "
                "Convert them to numbers, or set env.parallel to False.",
                stacklevel=2,
            )
        return rows, infos

    def call(self, index: int, method: str, *args: Any) -> Any:  # noqa: D102
        self._send(pickle.dumps(("call", index, method, *args)))
        return self._receive()

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
        # If the worker has died, the `_receive` that follows raises the error.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send_bytes(message)

    def _receive(self) -> Any:
        if self._timeout and not self._pipe.poll(self._timeout):
            self._process.kill()
            raise EnvError(
                f"The worker process of {self._label} did not answer within {self._timeout:g} seconds "
                "(env.step_timeout) and was killed."
            )
        try:
            result, failure = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise EnvError(f"The worker process of {self._label} died ({self._exit_status()}).") from None
        if failure is not None:
            text, trace = failure
            error = EnvError(text)
            error.add_note(f"In the worker process:\n{trace}")
            raise error
        return result

    def _exit_status(self) -> str:
        try:
            code = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"


def main(file_descriptor: int) -> None:
    """Serve environments on the connection with this file descriptor, until it closes."""
    cv2.setNumThreads(0)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    pipe = Connection(file_descriptor)
    with contextlib.ExitStack() as stack, contextlib.suppress(EOFError, OSError):
        worker: SyncWorker | None = None
        while True:
            request = pipe.recv_bytes()
            try:
                if worker is None:
                    worker = stack.enter_context(contextlib.closing(SyncWorker(pickle.loads(request))))
                    result: Any = worker.wait_ready()
                else:
                    result = _call(worker, *pickle.loads(request))
                reply = pickle.dumps((result, None))
            except Exception as error:
                text = f"The environment's worker process failed: {type(error).__name__}: {error}."
                text = str(error) if isinstance(error, EnvError) else text
                reply = pickle.dumps((None, (text, traceback.format_exc())))
            pipe.send_bytes(reply)


def _exit_with_parent() -> None:
    """End this process when the learner's end of stdin closes, even in the middle of a step."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _call(worker: SyncWorker, method: str, *args: Any) -> Any:
    if method == "call":
        return worker.call(*args)
    rows, infos = getattr(worker, method)(*args)
    dropped: dict[str, None] = {}
    return rows, {index: _keep_picklable(info, dropped) for index, info in infos.items()}, list(dropped)


def _keep_picklable(info: Mapping[Any, Any], dropped: dict[str, None], prefix: str = "") -> dict[Any, Any]:
    """Return the entries that can be pickled, those of nested dictionaries included; the names of others are noted."""
    kept = {}
    for key, value in info.items():
        try:
            kept[key] = _keep_picklable(value, dropped, f"{prefix}{key}/") if isinstance(value, dict) else value
            pickle.loads(pickle.dumps((key, kept[key])))
        except Exception:
            kept.pop(key, None)
            dropped[f"{prefix}{key}"] = None
    return kept

"""Worker processes that step environments.

A worker is a fresh interpreter, not a fork: the learner's threads and GPU stay out of it, and scripts need no
`if __name__ == "__main__"`. It has a session of its own, so that Ctrl-C in the terminal reaches the learner only, and
it ends when its connection to the learner does.

Messages are pickled and exchanged between processes of one run only. A request is a method of `_Server` and its
arguments; a reply is the result, or an error's message and traceback. Steps are in memory that both processes map.
"""

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import IO, Any, Literal

import cloudpickle  # type: ignore[import-untyped]
import cv2
import numpy as np

from reverie.envs.workers import Answer, EnvBuilder, SyncWorker, Worker, allocate_rows
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec

IS_SUPPORTED = hasattr(os, "fork")
"""True on POSIX systems, where file descriptors can be handed to a new process."""

_SINGLE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
}
_PROGRAM = "import sys; sys.path[:] = {path!r}; from reverie.envs.process_worker import main; main(*{files})"
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
        self._timeout = 0.0
        try:
            message = cloudpickle.dumps(("start", list(builders)))
        except Exception as error:
            raise EnvError(
                f"The function that creates the environment cannot be sent to a worker process ({error}); create "
                "everything inside the function, or set env.parallel to False."
            ) from error
        self._memory_file = _open_memory_file()
        here, there = socket.socketpair()
        with there:
            files = there.fileno(), self._memory_file.fileno()
            path = [folder or os.getcwd() for folder in sys.path]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(path=path, files=files)],
                stdin=subprocess.PIPE,
                pass_fds=files,
                start_new_session=True,
                env={**os.environ, **_SINGLE_THREAD},
            )
        self._pipe = Connection(here.detach())
        self._send(message)

    def wait_ready(self) -> EnvSpec:  # noqa: D102
        spec: EnvSpec = self._receive()
        with self._memory_file:
            self._rows = allocate_rows(spec, self.num_envs, self._memory_file.fileno())
        self._timeout = self._step_timeout
        return spec

    def send(self, method: Literal["reset", "step"], argument: Array) -> None:  # noqa: D102
        self._send(pickle.dumps(("exchange", method, argument.dtype.char, argument.tobytes())))

    def receive(self) -> Answer:  # noqa: D102
        count, infos, dropped = self._receive()
        if dropped:
            warnings.warn(
                f"Entries of info cannot be pickled ({', '.join(dropped)}). They are dropped. "
                "Convert them to numbers, or set env.parallel to False.",
                stacklevel=2,
            )
        return {key: rows[:count] for key, rows in self._rows.items()}, infos

    def call(self, index: int, method: str, *args: Any) -> Any:  # noqa: D102
        self._send(pickle.dumps(("call", index, method, *args)))
        return self._receive()

    def close(self) -> None:
        """Close the environments and end the process."""
        self._pipe.close()
        self._memory_file.close()
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


def _open_memory_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("reverie"), "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def main(pipe_file: int, memory_file: int) -> None:
    """Serve environments in a worker process until the connection closes, given the descriptors of both files."""
    cv2.setNumThreads(0)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    pipe = Connection(pipe_file)
    with contextlib.closing(_Server(memory_file)) as server, contextlib.suppress(EOFError, OSError):
        while True:
            request = pipe.recv_bytes()
            try:
                method, *args = pickle.loads(request)
                reply = pickle.dumps((getattr(server, method)(*args), None))
            except Exception as error:
                text = f"The environment's worker process failed: {type(error).__name__}: {error}."
                text = str(error) if isinstance(error, EnvError) else text
                reply = pickle.dumps((None, (text, traceback.format_exc())))
            pipe.send_bytes(reply)


class _Server:
    """Environments of a worker process; its methods are the requests."""

    def __init__(self, memory_file: int) -> None:
        self._memory_file = memory_file
        self.close: Callable[[], None] = lambda: None

    def start(self, builders: Sequence[EnvBuilder]) -> EnvSpec:
        self._worker = SyncWorker(builders)
        self.call, self.close = self._worker.call, self._worker.close
        spec = self._worker.wait_ready()
        self._rows = allocate_rows(spec, len(builders), self._memory_file)
        return spec

    def exchange(self, method: Literal["reset", "step"], dtype: str, argument: bytes) -> Any:
        """Return the number of rows in shared memory, the infos, and the names of entries left out of them."""
        self._worker.send(method, np.frombuffer(argument, dtype).reshape(self._worker.num_envs, -1))
        rows, infos = self._worker.receive()
        count = len(rows["reward"])
        for key, values in rows.items():
            self._rows[key][:count] = values
        dropped: dict[str, None] = {}
        return count, {index: _keep_picklable(info, dropped) for index, info in infos.items()}, list(dropped)


def _exit_with_parent() -> None:
    """End this process when the learner's end of stdin closes, even in the middle of a step."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _keep_picklable(info: Mapping[Any, Any], dropped: dict[str, None], prefix: str = "") -> dict[Any, Any]:
    """Return the entries that can be pickled, those of nested dictionaries included; note the names of the others."""
    kept = {}
    for key, value in info.items():
        try:
            value = _keep_picklable(value, dropped, f"{prefix}{key}/") if isinstance(value, dict) else value
            pickle.loads(pickle.dumps((key, value)))
        except Exception:
            dropped[f"{prefix}{key}"] = None
        else:
            kept[key] = value
    return kept

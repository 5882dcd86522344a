"""Worker processes that step environments.

A worker is a fresh interpreter, not a fork: the learner's threads and GPU stay out of it, and scripts need no
`if __name__ == "__main__"`. It has a session of its own, so that Ctrl-C in the terminal reaches the learner only, and
it ends when its connection to the learner does.

Messages are pickled and exchanged between processes of one run only. A request is a method of `SyncWorker` and its
arguments; a reply is the result, or an error's message and traceback. Steps are in memory that both processes map.
"""

import os
import pickle
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import cv2

from reverie.envs.workers import EnvBuilder, Infos, SyncWorker, allocate_rows
from reverie.errors import EnvError
from reverie.specs import EnvSpec

IS_SUPPORTED = hasattr(os, "memfd_create")
"""True on Linux, where memory can be shared without a file."""

_SINGLE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
}
_PROGRAM = "import sys; sys.path[:] = {path!r}; from reverie.envs.process_worker import main; main(*{files})"
_CLOSE_SECONDS = 5.0


class ProcessWorker:
    """Environments in a worker process; they are created while the constructor returns.

    Args:
        builders: create the environments.
        label: names them in messages.
        timeout: limit in seconds of each answer after `wait_ready`; 0 for none.
    """

    def __init__(self, builders: Sequence[EnvBuilder], label: str, timeout: float = 0.0) -> None:
        self._num_envs, self._label, self._step_timeout, self._timeout = len(builders), label, timeout, 0.0
        try:
            message = cloudpickle.dumps(list(builders))
        except Exception as error:
            raise EnvError(
                f"The function that creates the environment cannot be sent to a worker process ({error}); create "
                "everything inside the function, or set env.parallel to False."
            ) from error
        self._memory_file = os.fdopen(os.memfd_create("reverie"), "r+b", buffering=0)
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
        spec: EnvSpec = self.receive()
        with self._memory_file:
            self.rows = allocate_rows(spec, self._num_envs, self._memory_file.fileno())
        self._timeout = self._step_timeout
        return spec

    def send(self, method: str, *args: Any) -> None:  # noqa: D102
        self._send(pickle.dumps((method, args)))

    def receive(self) -> Any:  # noqa: D102
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
        # If the worker has died, the `receive` that follows raises the error.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send_bytes(message)

    def _exit_status(self) -> str:
        try:
            code = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"


def main(pipe_file: int, memory_file: int) -> None:
    """Serve environments in a worker process until the connection closes, given the descriptors of both files."""
    cv2.setNumThreads(0)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    pipe = Connection(pipe_file)
    worker: SyncWorker | None = None
    with suppress(EOFError, OSError):
        while True:
            request = pipe.recv_bytes()
            try:
                result: Any
                if worker is None:
                    worker = SyncWorker(pickle.loads(request), memory_file)
                    result = worker.wait_ready()
                else:
                    method, args = pickle.loads(request)
                    result = getattr(worker, method)(*args)
                    result = result if method == "call" else _keep_picklable(result)
                reply = pickle.dumps((result, None))
            except Exception as error:
                text = f"The environment's worker process failed: {type(error).__name__}: {error}."
                text = str(error) if isinstance(error, EnvError) else text
                reply = pickle.dumps((None, (text, traceback.format_exc())))
            pipe.send_bytes(reply)
    if worker is not None:
        worker.close()


def _exit_with_parent() -> None:
    """End this process when the learner's end of stdin closes, even in the middle of a step."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _keep_picklable(infos: Infos) -> Infos:
    kept: Infos = {index: {} for index in infos}
    for index, info in infos.items():
        for key, value in info.items():
            try:
                pickle.loads(pickle.dumps((key, value)))
            except Exception:
                warnings.warn(
                    f"The entry {key} of info cannot be pickled. It is dropped. "
                    "Convert it to numbers, or set env.parallel to False.",
                    stacklevel=1,
                )
            else:
                kept[index][key] = value
    return kept

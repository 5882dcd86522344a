"""Workers step some of the environments of a `VectorEnv`, in this process or in one of their own.

A worker process is a fresh interpreter, not a fork: the learner's threads and GPU stay out of it, and scripts need no
`if __name__ == "__main__"`. It has a session of its own, so that Ctrl-C in the terminal reaches the learner only, and
it ends when its connection to the learner does.

Messages are pickled and exchanged between processes of one run only. A request is a method of `SyncWorker` and its
arguments; a reply is the result, or an error's message and traceback. Steps are in memory that both processes map.
"""

import mmap
import os
import pickle
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import cv2
import numpy as np

from reverie.envs.step_wrapper import StepWrapper
from reverie.errors import EnvError
from reverie.specs import STEP_KEYS, Array, EnvSpec, Step

EnvBuilder = Callable[[], StepWrapper]
"""Function that creates one environment; sent to worker processes by cloudpickle."""
Infos = dict[int, dict[str, Any]]
"""The `info` of each environment whose episode ended, by its index."""
IS_SUPPORTED = hasattr(os, "memfd_create")
"""True on Linux, where processes can share memory without a file."""

_SINGLE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
_PROGRAM = "import sys; sys.path[:] = {path!r}; from reverie.envs.workers import main; main(*{files})"
_CLOSE_SECONDS = 5.0


class SyncWorker:
    """Environments stepped one after the other in this process; each worker process holds one, too.

    Args:
        builders: create the environments.
        memory_file: descriptor of a file whose memory `rows`, the latest steps `[n, …]`, share with another process.
    """

    has_autoreset = False
    """True where finished environments reset themselves in the next step."""

    def __init__(self, builders: Sequence[EnvBuilder], memory_file: int | None = None) -> None:
        self._envs: list[StepWrapper] = []
        try:
            for build in builders:
                self._envs.append(build())
        except BaseException:
            self.close()
            raise
        self.rows = allocate_rows(self.wait_ready(), len(self._envs), memory_file)

    def wait_ready(self) -> EnvSpec:
        """Wait until the environments exist and return their spec."""
        return self._envs[0].spec

    def send(self, method: str, *args: Any) -> None:
        """Begin `reset`, `step` or `call`."""
        self._request = method, args

    def receive(self) -> Any:
        """Return its result."""
        method, args = self._request
        return getattr(self, method)(*args)

    def reset(self, mask: Array) -> Infos:
        """Reset the environments in a mask `[n]`."""
        return self._store({index: self._envs[index].reset() for index in np.flatnonzero(mask).tolist()})

    def step(self, actions: Array) -> Infos:
        """Step every environment with actions `[n, A]`."""
        return self._store({index: env.step(actions[index]) for index, env in enumerate(self._envs)})

    def call(self, index: int, method: str, *args: Any) -> Any:
        """Return the result of a method of one environment's `StepWrapper`."""
        return getattr(self._envs[index], method)(*args)

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()

    def _store(self, steps: dict[int, dict[str, Any]]) -> Infos:
        for index, step in steps.items():
            for key, value in step.items():
                self.rows[key][index] = value
        return {index: dict(self._envs[index].last_info) for index, step in steps.items() if step["is_last"]}


class ProcessWorker:
    """Environments in a worker process; they are created while the constructor returns.

    Args:
        builders: create the environments.
        label: names them in messages.
        timeout: limit in seconds of each answer after `wait_ready`; 0 for none.
    """

    has_autoreset = False

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
            result, dropped, failure = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise EnvError(f"The worker process of {self._label} died ({self._exit_status()}).") from None
        if failure is not None:
            text, trace = failure
            error = EnvError(text)
            error.add_note(f"In the worker process:\n{trace}")
            raise error
        if dropped:
            warnings.warn(
                f"Entries of info cannot be pickled ({', '.join(dropped)}). They are dropped. "
                "Convert them to numbers, or set env.parallel to False.",
                stacklevel=2,
            )
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


def allocate_rows(spec: EnvSpec, num_envs: int, memory_file: int | None = None) -> Step:
    """Return arrays `[n, …]` for what environments return, zero at first; in the memory of a file if there is one."""
    entries = {**spec.observations, **STEP_KEYS}
    dtype = np.dtype([(key, entry.dtype, entry.shape) for key, entry in entries.items()], align=True)
    size = num_envs * dtype.itemsize
    if memory_file is not None:
        os.ftruncate(memory_file, size)
    rows = np.frombuffer(bytearray(size) if memory_file is None else mmap.mmap(memory_file, size), dtype)
    return {key: rows[key] for key in entries}


def main(pipe_file: int, memory_file: int) -> None:
    """Serve environments in a worker process until the connection closes, given the descriptors of both files."""
    cv2.setNumThreads(0)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    pipe = Connection(pipe_file)
    worker: SyncWorker | None = None
    with suppress(EOFError, OSError):
        while True:
            request = pipe.recv_bytes()
            dropped: set[str] = set()
            try:
                result: Any
                if worker is None:
                    worker = SyncWorker(pickle.loads(request), memory_file)
                    result = worker.wait_ready()
                else:
                    method, args = pickle.loads(request)
                    result = getattr(worker, method)(*args)
                    if method != "call":
                        result = {index: _keep_picklable(info, dropped) for index, info in result.items()}
                reply = pickle.dumps((result, sorted(dropped), None))
            except Exception as error:
                text = f"The environment's worker process failed: {type(error).__name__}: {error}."
                text = str(error) if isinstance(error, EnvError) else text
                reply = pickle.dumps((None, [], (text, traceback.format_exc())))
            pipe.send_bytes(reply)
    if worker is not None:
        worker.close()


def _exit_with_parent() -> None:
    """End this process when the learner's end of stdin closes, even in the middle of a step."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _keep_picklable(info: Mapping[Any, Any], dropped: set[str]) -> dict[Any, Any]:
    """Return what of an `info` can be sent to the learner's process; other entries are added to `dropped`."""
    kept = {}
    for key, value in info.items():
        try:
            value = _keep_picklable(value, dropped) if isinstance(value, dict) else value
            pickle.loads(pickle.dumps((key, value)))
        except Exception:
            dropped.add(str(key))
        else:
            kept[key] = value
    return kept

"""Processes of a sweep in a Ray cluster whose machines share the folder of the sweep."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from reverie.scaling.cluster import RayError, RayTaskError, ray

PAUSE = 2.0
"""Seconds between two requests for a place: until a machine that has left is known to be gone, it is offered again."""
MAX_REQUESTS = 20
"""Requests for a place that may fail; each gives a reason."""


class Guard:
    """Runs one command on a machine of the cluster; where the guard ends, the command does, too (`child.py`)."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def ready(self) -> None:
        """Return when the guard has its place."""

    def run(self, arguments: Sequence[str], log: str, folder: str) -> int:
        """Run Python with arguments in a folder, append its output to a file, and return its exit code."""
        with Path(log).open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            return self._child.wait()

    def terminate(self) -> None:
        """Send SIGTERM to the command."""
        if self._child is not None:
            self._child.terminate()

    def kill(self) -> None:
        """Kill the command, and its own children."""
        if self._child is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)


class RayProcess(AbstractContextManager["RayProcess"]):
    """A Python process on some machine of the cluster, with the part of `subprocess.Popen` that a sweep uses.

    Args:
        command: this Python, which is replaced by that machine's, and its arguments.
        log: file to which its output is appended.
        cpus: that it reserves.
        gpus: that it reserves, and alone sees.
    """

    is_lost = False
    """True where it was killed, or its machine is gone."""

    def __init__(self, command: Sequence[str], log: Path, cpus: float, gpus: float) -> None:
        self.returncode: int | None = None
        actor: Any = ray.remote(Guard)
        self._actor = actor.options(num_cpus=cpus, num_gpus=gpus, max_concurrency=2)
        self._arguments = (list(command[1:]), str(log.resolve()), str(Path.cwd()))
        self._log, self._num_requests = log, 0
        self._queue()

    def poll(self) -> int | None:
        """Return its exit code; None while it runs or waits for its place."""
        return self._poll(timeout=0.0)

    def wait(self, timeout: float) -> int:
        """Wait for its exit code; raise `subprocess.TimeoutExpired` after `timeout` seconds."""
        code = self._poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a process in the cluster", timeout)
        return code

    def terminate(self) -> None:
        """Send it SIGTERM, or give up its place in the queue."""
        if self._has_place():
            self._guard.terminate.remote()
        else:
            self.kill()
            self.returncode = -signal.SIGTERM

    def kill(self) -> None:
        """End it, its own children and its guard at once."""
        if self.returncode is None and self._has_place():
            ray.wait([self._guard.kill.remote()], timeout=5)
        ray.kill(self._guard)

    def __exit__(self, *_: object) -> None:
        """Release its place."""
        self.kill()

    def _queue(self) -> None:
        """Ask for a place in the cluster."""
        self._queued_at, self._is_placed = time.monotonic(), False
        self._num_requests += 1
        self._guard = self._actor.remote()
        self._ready = self._guard.ready.remote()
        self._result = self._guard.run.remote(*self._arguments)

    def _has_place(self) -> bool:
        """Return whether it has begun; ask again for a place where that was on a machine which has left."""
        if not self._is_placed and ray.wait([self._ready], timeout=0)[0]:
            try:
                ray.get(self._ready)
                self._is_placed = True
            except RayError as error:
                if self._num_requests == MAX_REQUESTS:
                    self._fail(error)
                elif time.monotonic() - self._queued_at > PAUSE:
                    self._queue()
        return self._is_placed

    def _fail(self, error: Exception) -> None:
        self.returncode = 1
        with self._log.open("a") as log:
            log.write(f"error: The cluster could not start it: {str(error).strip().splitlines()[-1].strip()}\n")

    def _poll(self, timeout: float) -> int | None:
        if self.returncode is None and self._has_place() and ray.wait([self._result], timeout=timeout)[0]:
            try:
                self.returncode = int(ray.get(self._result))
            except RayTaskError as error:
                self._fail(error)
            except RayError:
                self.returncode = -signal.SIGKILL
            self.is_lost = self.returncode == -signal.SIGKILL  # Ray also kills what a node that leaves has running
        return self.returncode

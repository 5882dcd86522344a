"""Runs the cells of a board: a number at a time, each once, even where others fail."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from filelock import BaseFileLock

from reverie.errors import ReverieError
from reverie.experiments.board import OPEN, Board, Entry, State
from reverie.experiments.process import Command, Process, acquire_cell, reverie_command
from reverie.experiments.run_progress import ProgressReader
from reverie.experiments.run_status import FAILURE, Stage, read_failure, read_status, record_failure
from reverie.runs.atomic_io import remove
from reverie.runs.run_folder import RunFolder
from reverie.training.stop_signal import Interrupted, StopSignal

PATIENCE = 150.0
"""Seconds that cells have to end with a checkpoint, before they are killed."""


@runtime_checkable
class View(Protocol):
    """Display of a sweep."""

    def event(self, entry: Entry) -> None:
        """Show that a cell has begun or ended."""

    def log(self, message: str) -> None:
        """Show a line that stays."""

    def update(self) -> None:
        """Show the time that has passed."""


class Scheduler:
    """Runs what is left to be run on a board.

    Args:
        board: all cells and their states.
        folder: of the sweep.
        view: display of what happens.
        command: gives the command of a cell.
        retry: times that a failing cell is tried again by this call of `run`.
        keep_replay: keep the replay of a cell that is done.
        poll: seconds between two checks of the cells.
    """

    def __init__(
        self,
        board: Board,
        folder: Path,
        view: View,
        command: Command = reverie_command,
        *,
        retry: int = 0,
        keep_replay: bool = True,
        poll: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.board = board
        self.folder = folder
        self.view = view
        self._command = command
        self._retry = retry
        self._keep_replay = keep_replay
        self._poll = poll
        self._sleep = sleep
        self._began = time.time()
        self._processes: dict[str, tuple[Entry, Process]] = {}
        self._readers = {
            entry.cell.id: ProgressReader(RunFolder(folder / entry.cell.place).metrics) for entry in board.entries
        }

    def run(self) -> None:
        """Run until every cell is done or has failed.

        Raises:
            Interrupted: on Ctrl-C, SIGTERM or SIGHUP, after all cells have ended with a checkpoint.
        """
        try:
            with StopSignal(self._announce_stop) as stop:
                while not stop.requested and self._is_unfinished():
                    self._collect()
                    self._start()
                    self._update()
                    if self._is_unfinished():
                        self._sleep(self._poll)
                if stop.requested:
                    self._stop()
                    raise Interrupted("", stop.signal)
        finally:
            for _, process in self._processes.values():
                process.kill()

    def _is_unfinished(self) -> bool:
        return bool(self._processes or self.board.of(*OPEN))

    def _announce_stop(self) -> None:
        count = len(self._processes)
        self.view.log(f"Stopping {count} cell(s), each with a checkpoint; press Ctrl-C again to stop at once.")

    def _stop(self) -> None:
        for _, process in self._processes.values():
            process.stop()
        waited = 0.0
        while self._processes and waited < PATIENCE:
            self._sleep(self._poll)
            waited += self._poll
            self._collect(stopping=True)
            self._update()

    def _collect(self, stopping: bool = False) -> None:
        """Settle the cells whose processes have ended."""
        for key, (entry, process) in list(self._processes.items()):
            status = process.status()
            if status is None:
                continue
            del self._processes[key]
            error = process.error() if status else "it ended before its planned steps"
            self._settle(entry, error, stopping)
            process.close()

    def _settle(self, entry: Entry, error: str, stopping: bool) -> None:
        """Set a cell's state from its folder; `FAILED` with this error if it is not done."""
        run = self.folder / entry.cell.place
        try:
            status = read_status(entry.cell, self.folder)
            entry.update_progress(status.progress, self.board.clock())
            done = status.stage is Stage.DONE
        except ReverieError as problem:
            done, error = False, str(problem)
        if done:
            entry.state = State.DONE
            if not self._keep_replay:
                with suppress(OSError):
                    remove(RunFolder(run).replay)
        elif stopping:
            entry.state = State.WAITING
            return
        else:
            entry.error = error
            record_failure(run, error)
            entry.state = State.WAITING if entry.attempts <= self._retry else State.FAILED
        self.view.event(entry)

    def _start(self) -> None:
        """Start cells in their order while workers are free."""
        for entry in self.board.of(*OPEN):
            if len(self._processes) >= self.board.workers:
                return
            run = self.folder / entry.cell.place
            lock = acquire_cell(run)
            if lock is None:
                entry.state = State.ELSEWHERE
            elif self._is_still_open(entry, run):
                self._launch(entry, run, lock)
            else:
                lock.release()
                self.view.event(entry)

    def _is_still_open(self, entry: Entry, run: Path) -> bool:
        """Return whether a locked cell is to be run; another sweep may have run it since the last check."""
        try:
            status = read_status(entry.cell, self.folder)
        except ReverieError as problem:
            entry.state, entry.error = State.FAILED, str(problem)
            return False
        entry.update_progress(status.progress, self.board.clock())
        failure = read_failure(run)
        if status.stage is Stage.DONE:
            entry.state = State.DONE
        elif status.stage is Stage.OTHER:
            entry.state, entry.error = State.FAILED, f"its settings have changed: {status.differences[0]}"
        elif failure is not None and not entry.attempts and failure.time > self._began:
            entry.state, entry.error = State.FAILED, failure.error
        else:
            return True
        return False

    def _launch(self, entry: Entry, run: Path, lock: BaseFileLock) -> None:
        entry.attempts += 1
        (run / FAILURE).unlink(missing_ok=True)
        try:
            process = Process(run, self._command(entry.cell, self.folder), lock)
        except OSError as problem:
            lock.release()
            self._settle(entry, f"its process could not be started: {problem.strerror or problem}", False)
            return
        self._processes[entry.cell.id] = (entry, process)
        entry.state, entry.seen = State.RUNNING, self.board.clock()
        self.view.event(entry)

    def _update(self) -> None:
        now = self.board.clock()
        for entry in self.board.of(State.RUNNING, State.ELSEWHERE):
            entry.update_progress(self._readers[entry.cell.id].read(), now)
        self.view.update()

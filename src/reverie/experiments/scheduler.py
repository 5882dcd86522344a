"""Runs the cells of a board: so many at a time, each once, whatever becomes of the others."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from reverie.errors import ReverieError
from reverie.experiments.board import OPEN, Board, Entry, State
from reverie.experiments.process import Claim, Command, Process, reverie_command
from reverie.experiments.standing import FAILURE, Stage, look, note_failure, read_failure
from reverie.experiments.track import Tail
from reverie.replay import REPLAY, delete_replay
from reverie.training.interrupts import Stopped, StopRequest

PATIENCE = 150.0
"""Seconds that cells have to end with a checkpoint, before they are killed."""


@runtime_checkable
class View(Protocol):
    """What shows a sweep to the user."""

    def event(self, entry: Entry) -> None:
        """A cell has begun, or has ended."""

    def log(self, message: str) -> None:
        """Something that stays to be read."""

    def update(self) -> None:
        """Some time has passed."""


class Scheduler:
    """Runs what is left to be run on a board.

    Args:
        board: all cells and their states.
        folder: of the sweep.
        view: is told what happens.
        command: gives the command of a cell.
        retry: times that a failing cell is tried again by this call of `run`.
        keep_replay: keep the replay of a cell that is done.
        poll: seconds between two looks at the cells.
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
        self._tails = {entry.cell.id: Tail(folder / entry.cell.place / "metrics.jsonl") for entry in board.entries}

    def run(self) -> None:
        """Run until every cell is done or has failed.

        Raises:
            Stopped: on Ctrl-C, SIGTERM or SIGHUP, after all cells have ended with a checkpoint.
        """
        try:
            with StopRequest(self._announce_stop) as stop:
                while not stop.requested and self._goes_on():
                    self._collect()
                    self._start()
                    self._look()
                    if self._goes_on():
                        self._sleep(self._poll)
                if stop.requested:
                    self._stop()
                    raise Stopped("", stop.signal)
        finally:
            for _, process in self._processes.values():
                process.kill()

    def _goes_on(self) -> bool:
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
            self._look()

    def _collect(self, stopping: bool = False) -> None:
        """Take note of the cells whose processes have ended."""
        for key, (entry, process) in list(self._processes.items()):
            status = process.status()
            if status is None:
                continue
            del self._processes[key]
            process.close()
            error = process.error() if status else "it ended before its planned steps"
            self._settle(entry, error, stopping)

    def _settle(self, entry: Entry, error: str, stopping: bool) -> None:
        """Give a cell the state that its folder says, `FAILED` with this error if it is not done."""
        run = self.folder / entry.cell.place
        try:
            standing = look(entry.cell, self.folder)
            entry.look_at(standing.track, self.board.clock())
            done = standing.stage is Stage.DONE
        except ReverieError as problem:
            done, error = False, str(problem)
        if done:
            entry.state = State.DONE
            if not self._keep_replay:
                with suppress(OSError):
                    delete_replay(run / REPLAY)
        elif stopping:
            entry.state = State.WAITING
            return
        else:
            entry.error = error
            note_failure(run, error)
            entry.state = State.WAITING if entry.attempts <= self._retry else State.FAILED
        self.view.event(entry)

    def _start(self) -> None:
        """Start cells while there are workers, in their order."""
        for entry in self.board.of(*OPEN):
            if len(self._processes) >= self.board.workers:
                return
            run = self.folder / entry.cell.place
            claim = Claim.take(run)
            if claim is None:
                entry.state = State.ELSEWHERE
                continue
            if not self._is_still_open(entry, run):
                claim.release()
                self.view.event(entry)
                continue
            self._launch(entry, claim)

    def _is_still_open(self, entry: Entry, run: Path) -> bool:
        """Whether a claimed cell is to be run; another sweep may have seen to it since the last look."""
        try:
            standing = look(entry.cell, self.folder)
        except ReverieError as problem:
            entry.state, entry.error = State.FAILED, str(problem)
            return False
        entry.look_at(standing.track, self.board.clock())
        failure = read_failure(run)
        if standing.stage is Stage.DONE:
            entry.state = State.DONE
        elif standing.stage is Stage.OTHER:
            entry.state, entry.error = State.FAILED, f"its settings have changed: {standing.differences[0]}"
        elif failure is not None and not entry.attempts and failure.time > self._began:
            entry.state, entry.error = State.FAILED, failure.error
        else:
            return True
        return False

    def _launch(self, entry: Entry, claim: Claim) -> None:
        entry.attempts += 1
        (claim.run / FAILURE).unlink(missing_ok=True)
        try:
            process = claim.start(self._command(entry.cell, self.folder))
        except OSError as problem:
            claim.release()
            self._settle(entry, f"its process could not be started: {problem.strerror or problem}", False)
            return
        self._processes[entry.cell.id] = (entry, process)
        entry.state, entry.seen = State.RUNNING, self.board.clock()
        self.view.event(entry)

    def _look(self) -> None:
        now = self.board.clock()
        for entry in self.board.of(State.RUNNING, State.ELSEWHERE):
            entry.look_at(self._tails[entry.cell.id].read(), now)
        self.view.update()

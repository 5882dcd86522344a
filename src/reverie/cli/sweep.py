"""`reverie sweep`: run a grid of environments x variants x seeds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from reverie.cli.console import console, print_table, require, require_positive
from reverie.errors import RunError
from reverie.shell import command_line

if TYPE_CHECKING:
    from reverie.experiments.board import Board
    from reverie.experiments.cells import Cell
    from reverie.experiments.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """Options of a command that trains the runs of a plan."""

    out: Path | None = None
    """Folder of the sweep, by default runs/PLAN or runs/ablation-SUITE. Its runs are in DIR/ENV/VARIANT/seed-N."""
    workers: int | None = None
    """Number of runs at a time; by default the plan's."""
    threads: int | None = None
    """CPU threads of each; 0 divides the usable cores by the workers. By default the plan's."""
    retry: int = 0
    """Number of times that a failing run is tried again at once. The next call of the command tries it again anyway."""
    dry_run: bool = False
    """Only print the grid, its progress, and an estimate of the remaining time."""
    json: bool = False
    """Print the result as one JSON object on the last line."""

    def with_budget(self, plan: "Plan") -> "Plan":
        """Return a plan with the workers and threads of the command line."""
        require_positive(self, "workers")
        require((self.threads or 0) >= 0, f"--threads is {self.threads}, but it must not be negative.")
        given: dict[str, Any] = {"workers": self.workers, "threads": self.threads}
        return replace(plan, **{name: value for name, value in given.items() if value is not None})

    def train(self, plan: "Plan", cells: "Sequence[Cell]", folder: Path, print_status: bool) -> None:
        """Train the runs of a plan in a folder, or only print their progress.

        Raises:
            RunError: if a run has failed, after all others.
            Interrupted: if it was stopped.
        """
        from reverie.experiments.cells import not_run
        from reverie.experiments.scheduler import Scheduler
        from reverie.experiments.sweep import failures, save_plan, status, survey
        from reverie.experiments.view import view_of
        from reverie.training.stop_signal import Interrupted

        out = console(stderr=print_status)
        board = survey(cells, folder, plan.workers)
        if sentence := not_run(cells):
            out.print(sentence, markup=False, soft_wrap=True)
        try:
            if self.dry_run:
                _print_grid(board, folder, out)
            else:
                save_plan(plan, folder)
                with view_of(board, plan.name, out) as view:
                    Scheduler(board, folder, view, retry=self.retry, keep_replay=plan.keep_replay).run()
        except Interrupted as stopped:
            own = next((cell.env for cell in cells if ":" in cell.env), "")
            again = command_line("sweep", folder, env=own)
            raise Interrupted(f"Stopped; continue with `{again}`.", stopped.signal) from None
        finally:
            if print_status:
                print(json.dumps(status(board, plan, folder)))
        if problem := failures(board):
            raise RunError(problem)


@dataclass(frozen=True)
class Sweep(Scheduled):
    """Train every run of a grid, environments x variants x seeds.

    The same command continues a sweep: finished runs are kept, interrupted ones resume from their checkpoints, failed
    ones are tried again. docs/experiments.md says how a plan is written.
    """

    plan: str
    """A plan (TOML), the folder of a sweep, or one that comes with the package: laptop, quick, evening or boxing."""

    def __call__(self) -> None:
        from reverie.experiments.cells import cells
        from reverie.experiments.plan import PLAN_FILE, find_plan, read_plan

        path = find_plan(self.plan)
        plan = self.with_budget(read_plan(path))
        in_folder = path.parent if path.name == PLAN_FILE else None
        self.train(plan, cells(plan), self.out or in_folder or Path("runs") / plan.name, self.json)


def _print_grid(board: "Board", folder: Path, out: Console) -> None:
    from reverie.experiments.board import State
    from reverie.experiments.view import STYLES, done_words, estimate_words, score_words

    rows = []
    for entry in board.entries:
        cell, state, is_same = entry.cell, entry.state.value, entry.state is State.SAME
        if is_same:
            state = f"same as {cell.twin}"
        elif entry.state is State.WAITING:
            state = f"failed: {entry.error}" if entry.error else "interrupted" if entry.progress.step else state
        done, score = "" if is_same else done_words(entry), score_words(entry) if entry.progress.step else ""
        styled = Text(state, STYLES[entry.state])
        rows.append((cell.env, cell.variant, str(cell.seed), cell.preset, styled, done, score))
    print_table(("environment", "variant", "seed", "preset", "state", "done", "last score"), rows, out=out)
    counts = ", ".join(f"{count} {state.value}" for state, count in board.counts().items())
    out.print(f"{folder}: {counts}; {board.workers} at a time; {estimate_words(board.estimate())}.", markup=False)

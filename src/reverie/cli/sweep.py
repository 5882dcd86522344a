"""`reverie sweep`: run a grid of environments x variants x seeds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table

from reverie.cli.console import UsageError, console
from reverie.errors import RunError
from reverie.shell import command_line

if TYPE_CHECKING:
    from reverie.experiments.board import Board
    from reverie.experiments.cells import Cell
    from reverie.experiments.plan import Plan

_OF_PLAN = "(default: the plan's)"


@dataclass(frozen=True)
class Sweep:
    """Run every cell of a grid, environments x variants x seeds, each as a run of its own.

    The same command goes on where it stopped: what is done is not run again, what was interrupted goes on from its
    checkpoint, what failed is tried again. docs/experiments.md says how a plan is written.
    """

    plan: Annotated[str, tyro.conf.arg(metavar="PLAN")]
    """A plan (TOML), the folder of a sweep, or one that comes with the package: laptop, quick, evening or boxing."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/NAME-OF-PLAN)")] = None
    """Folder of the sweep; each run lies in DIR/ENV/VARIANT/seed-N."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_OF_PLAN)] = None
    """Cells that run at a time."""
    threads: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_OF_PLAN)] = None
    """CPU threads of each; 0 divides the usable cores by the workers."""
    retry: int = 0
    """Times that a failing cell is tried again at once; the next call of the command tries it again anyway."""
    dry_run: bool = False
    """Only print the grid, what is done of it, and what the rest will take."""
    json: bool = False
    """Print how all cells stand, at the end, as one JSON object on the last line."""

    def __call__(self) -> None:
        from reverie.experiments.cells import cells
        from reverie.experiments.plan import PLAN_FILE, find_plan, read_plan

        path = find_plan(self.plan)
        plan = with_budget(read_plan(path), self.workers, self.threads)
        in_folder = path.parent if path.name == PLAN_FILE else None
        folder = self.out or in_folder or Path("runs") / plan.name
        carry_out(plan, cells(plan), folder, self.retry, self.dry_run, self.json)


def with_budget(plan: "Plan", workers: int | None, threads: int | None) -> "Plan":
    """A plan with the numbers of the command line, where there are any."""
    if workers is not None and workers < 1:
        raise UsageError(f"--workers is {workers}, but at least 1 is needed.")
    if threads is not None and threads < 0:
        raise UsageError(f"--threads is {threads}, but it must not be negative.")
    return replace(
        plan,
        workers=plan.workers if workers is None else workers,
        threads=plan.threads if threads is None else threads,
    )


def carry_out(plan: "Plan", cells: "Sequence[Cell]", folder: Path, retry: int, dry_run: bool, as_json: bool) -> "Board":
    """Run a plan in a folder and show it; or only show how it stands there.

    Raises:
        RunError: if a cell has failed, after all others.
        Interrupted: if it was stopped.
    """
    from reverie.experiments.cells import not_run
    from reverie.experiments.scheduler import Scheduler
    from reverie.experiments.sweep import failures, save_plan, status, survey
    from reverie.experiments.view import view_of
    from reverie.training.stop_signal import Interrupted

    out = console(stderr=as_json)
    board = survey(cells, folder, plan.workers)
    if sentence := not_run(cells):
        out.print(sentence, markup=False, soft_wrap=True)
    try:
        if dry_run:
            _print_grid(board, folder, as_json)
        else:
            save_plan(plan, folder)
            with view_of(board, plan.name, out) as view:
                Scheduler(board, folder, view, retry=retry, keep_replay=plan.keep_replay).run()
    except Interrupted as stopped:
        own = next((cell.env for cell in cells if ":" in cell.env), "")
        again = command_line("sweep", folder, env=own)
        raise Interrupted(f"Stopped; continue with `{again}`.", stopped.signal) from None
    finally:
        if as_json:
            print(json.dumps(status(board, plan, folder)))
    if problem := failures(board):
        raise RunError(problem)
    return board


def _print_grid(board: "Board", folder: Path, as_json: bool) -> None:
    from reverie.experiments.board import State
    from reverie.experiments.view import STYLES, done_words, estimate_words, score_words

    table = Table("environment", "variant", "seed", "preset", "state", "done", "last score")
    for entry in board.entries:
        cell, state = entry.cell, entry.state.value
        if entry.state is State.SAME:
            state = f"same as {cell.twin}"
        elif entry.state is State.WAITING and entry.error:
            state = f"failed: {entry.error}"
        elif entry.state is State.WAITING and entry.progress.step:
            state = "interrupted"
        style = STYLES[entry.state]
        done = "" if entry.state is State.SAME else done_words(entry)
        score = score_words(entry) if entry.progress.step else ""
        table.add_row(cell.env, cell.variant, str(cell.seed), cell.preset, f"[{style}]{state}[/]", done, score)
    out = console(stderr=as_json)
    out.print(table)
    counts = ", ".join(f"{count} {state.value}" for state, count in board.counts().items())
    out.print(f"{folder}: {counts}; {board.workers} at a time; {estimate_words(board.estimate())}.", markup=False)

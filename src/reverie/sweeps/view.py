"""Display of a sweep: a table updated in place on a terminal, plain lines everywhere else."""

import math
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reverie.sweeps.status import OPEN, Estimate, RunStatus, State, SweepStatus
from reverie.training.display import wants_live
from reverie.training.numbers import format_duration, format_number

STYLES = {
    State.RUNNING: "cyan",
    State.ELSEWHERE: "blue",
    State.DONE: "green",
    State.FAILED: "bold red",
    State.WAITING: "dim",
    State.DUPLICATE: "dim",
}
INTERVAL = 60.0
"""Seconds between two plain lines."""


class SweepView:
    """Prints a line when a run ends; between them a table of the running ones, or a line now and then.

    Args:
        sweep: what is shown.
        console: a terminal, or something else.
    """

    def __init__(self, sweep: SweepStatus, console: Console) -> None:
        self._sweep, self._console = sweep, console
        self._began, self._last = time.monotonic(), -math.inf
        self._live = None
        if wants_live(console):
            self._live = Live(
                get_renderable=self._render, console=console, auto_refresh=False, vertical_overflow="crop"
            )

    def event(self, status: RunStatus) -> None:
        """Print what became of a run; those that begin are in the table."""
        if self._live is None or status.state is not State.RUNNING:
            self.log(event_line(status))

    def log(self, message: str) -> None:
        """Print a line that stays."""
        self._console.print(message, markup=False, soft_wrap=True)

    def update(self) -> None:
        """Show the time that has passed."""
        if self._live is not None:
            self._live.refresh()
        elif time.monotonic() - self._last >= INTERVAL:
            self._last = time.monotonic()
            self.log(plain_line(self._sweep))

    def __enter__(self) -> "SweepView":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._last = -math.inf
        self.update()
        if self._live is not None:
            self._live.stop()

    def _render(self) -> Group:
        sweep, counts = self._sweep, self._sweep.counts()
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        line = ProgressBar(1.0, sweep.fraction, style="dim", complete_style="cyan")
        bar.add_row(Text(sweep.name, style="bold magenta"), line, Text(f"{sweep.fraction:.0%}", style="bold"))
        total = len(sweep.runs) - counts.pop(State.DUPLICATE, 0)
        facts = Text(f"{counts.pop(State.DONE, 0)} of {total} runs done", style="bold")
        for state, count in counts.items():
            facts.append(f" · {count} {state.value}", style=STYLES[state])
        elapsed = format_duration(time.monotonic() - self._began)
        times = Text(f"{elapsed} elapsed · {estimate_words(sweep.estimate())}", style="dim")
        return Group("", bar, facts, times, _running_table(sweep))


def _running_table(sweep: SweepStatus) -> Table:
    columns = ("environment", "variant", "seed", "done", "frames/s", "left", "last score")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="dim")
    pace_of = sweep.paces()
    for status in sweep.of(State.RUNNING, State.ELSEWHERE):
        run, rate, (pace, _) = status.run, status.frames_per_second, pace_of(status)
        left = format_duration(None if pace is None else status.left(pace))
        table.add_row(
            *(run.env, run.variant, str(run.seed), done_words(status)),
            "…" if rate is None else format_number(rate),
            "elsewhere" if status.state is State.ELSEWHERE else left,
            score_words(status),
        )
    return table


def grid_table(sweep: SweepStatus) -> Table:
    """Return a table of all runs and their states."""
    table = Table("environment", "variant", "seed", "preset", "state", "done", "last score")
    for status in sweep.runs:
        run, state = status.run, status.state.value
        if status.state is State.DUPLICATE:
            state = f"same as {run.duplicate_of}"
        elif status.state is State.WAITING and status.error:
            state = f"failed: {status.error}"
        elif status.state is State.WAITING and status.progress.step:
            state = "interrupted"
        done = "" if status.state is State.DUPLICATE else done_words(status)
        score = score_words(status) if status.progress.step else ""
        styled = Text(state, style=STYLES[status.state])
        table.add_row(run.env, run.variant, str(run.seed), run.preset, styled, done, score)
    return table


def counts_words(sweep: SweepStatus) -> str:
    """Return `3 done, 2 running, 7 waiting`."""
    return ", ".join(f"{count} {state.value}" for state, count in sweep.counts().items())


def done_words(status: RunStatus) -> str:
    """Return the share of its frames, and of its pretraining while that lasts: `61%, pretraining 46%`."""
    share = "" if status.pretraining is None else f", pretraining {status.pretraining:.0%}"
    return f"{status.fraction:.0%}{share}"


def score_words(status: RunStatus) -> str:
    """Return the latest score; that of training episodes, before there is an evaluation, says so."""
    if status.progress.score is None:
        return "…"
    return format_number(status.progress.score) + ("" if status.progress.evaluated else " (training)")


def estimate_words(estimate: Estimate) -> str:
    """Return the time left, and what it rests on where it is not on runs in the same environment."""
    if estimate.seconds is None:
        return "time left unknown until something is measured"
    left = f"{format_duration(estimate.seconds)} left"
    if estimate.unknown:
        return f"at least {left}: nothing like {estimate.unknown} of the runs is measured yet"
    if estimate.borrowed:
        return f"about {left}: {estimate.borrowed} by the pace of other environments"
    return left


def event_line(status: RunStatus) -> str:
    """Return what became of a run."""
    name, step = status.run.name, status.progress.step
    match status.state:
        case State.RUNNING:
            return f"{name} continues at step {step:,}" if step else f"{name} begins"
        case State.DONE:
            return f"{name} is done: last score {score_words(status)}"
        case State.FAILED:
            return f"{name} failed: {status.error}"
        case State.WAITING if status.error:
            return f"{name} failed and will be tried again: {status.error}"
    return f"{name}: {status.state.value}"


def plain_line(sweep: SweepStatus) -> str:
    """Return `NAME: 3 done, 2 running  41%  2:10:07 left`, then the running ones."""
    running = "; ".join(f"{status.run.name} {done_words(status)}" for status in sweep.of(State.RUNNING))
    is_over = not sweep.of(State.RUNNING, *OPEN)
    left = "finished" if is_over else estimate_words(sweep.estimate())
    return f"{sweep.name}: {counts_words(sweep)}  {sweep.fraction:.0%}  {left}" + (f"  ({running})" if running else "")

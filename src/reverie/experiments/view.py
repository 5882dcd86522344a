"""How a sweep is shown: a table redrawn in place on a terminal, plain lines everywhere else."""

import math
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reverie.experiments.board import Board, Entry, State
from reverie.experiments.estimate import Estimate
from reverie.training.display import wants_live
from reverie.training.numbers import format_duration, format_rate, format_score

STYLES = {
    State.RUNNING: "cyan",
    State.ELSEWHERE: "blue",
    State.DONE: "green",
    State.FAILED: "bold red",
    State.WAITING: "dim",
    State.SAME: "dim",
}
INTERVAL = 60.0
"""Seconds between two plain lines."""


def view_of(board: Board, title: str, console: Console) -> "LiveView | PlainView":
    """The view that suits a console."""
    return LiveView(board, title, console) if wants_live(console) else PlainView(board, title, console)


class PlainView:
    """Lines: one when a cell begins or ends, and one now and then."""

    def __init__(self, board: Board, title: str, console: Console, interval: float = INTERVAL) -> None:
        self.board, self.title, self.console = board, title, console
        self._interval = interval
        self._last = -math.inf

    def event(self, entry: Entry) -> None:
        """Say what became of a cell."""
        self.log(event_line(entry))

    def log(self, message: str) -> None:
        """Print a line."""
        self.console.print(message, markup=False, soft_wrap=True)

    def update(self) -> None:
        """Say how the sweep stands, if that is some time ago."""
        now = self.board.clock()
        if now - self._last >= self._interval:
            self._last = now
            self.log(f"{self.title}: {plain_line(self.board)}")

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.log(f"{self.title}: {plain_line(self.board)}")


class LiveView:
    """A table of the running cells under a bar for all of them; what ends is printed above it."""

    def __init__(self, board: Board, title: str, console: Console) -> None:
        self.board, self.title, self.console = board, title, console
        self._live = Live(self, console=console, auto_refresh=False, vertical_overflow="crop")

    def event(self, entry: Entry) -> None:
        """Cells that end leave a line; those that begin are in the table."""
        if entry.state is not State.RUNNING:
            self.log(event_line(entry))

    def log(self, message: str) -> None:
        """Print a line above the table."""
        self.console.print(message, markup=False, soft_wrap=True)

    def update(self) -> None:
        """Draw anew."""
        self._live.refresh()

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.refresh()
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield render(self.board, self.title, options.size.height)


def render(board: Board, title: str, height: int) -> RenderableType:
    """Bar, counts and running cells, in at most so many lines."""
    counts = board.counts()
    shown = board.of(State.RUNNING, State.ELSEWHERE)
    bar = Table.grid(padding=(0, 2), expand=True)
    bar.add_column(no_wrap=True)
    bar.add_column(ratio=1)
    bar.add_column(justify="right", no_wrap=True)
    total = len(board.entries) - counts.get(State.SAME, 0)
    done = counts.get(State.DONE, 0)
    line = ProgressBar(1.0, board.fraction, style="dim", complete_style="cyan")
    bar.add_row(Text(title, style="bold magenta"), line, Text(f"{board.fraction:.0%}", style="bold"))
    facts = Text(f"{done} of {total} cells done", style="bold")
    for state, count in counts.items():
        if state is not State.DONE:
            facts.append(f" · {count} {state.value}", style=STYLES[state])
    times = f"{format_duration(board.elapsed)} elapsed · {estimate_words(board.estimate())}"
    parts: list[RenderableType] = [bar, facts, Text(times, style="dim")]
    if shown:
        parts += [_table(board, shown[: max(height - 7, 1)])]
    return Group("", *parts)


def _table(board: Board, entries: list[Entry]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=False)
    for name in ("environment", "variant", "seed"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for name in ("done", "frames/s", "left", "last score"):
        table.add_column(name, no_wrap=True, justify="right")
    for entry in entries:
        rate, cell = entry.frames_per_second, entry.cell
        table.add_row(
            cell.env,
            cell.variant,
            str(cell.seed),
            done_words(entry),
            "…" if rate is None else format_rate(rate),
            "elsewhere" if entry.state is State.ELSEWHERE else format_duration(board.left(entry)),
            score_words(entry),
        )
    return table


def done_words(entry: Entry) -> str:
    """Share of its frames, and of its pretraining while that lasts: `61%, pretraining 46%`."""
    share = "" if entry.pretraining is None else f", pretraining {entry.pretraining:.0%}"
    return f"{entry.fraction:.0%}{share}"


def score_words(entry: Entry) -> str:
    """The latest score; that of training episodes, before there is an evaluation, says so."""
    progress = entry.progress
    if progress.score is None:
        return "…"
    return format_score(progress.score) + ("" if progress.evaluated else " (training)")


def estimate_words(found: Estimate) -> str:
    """Time left, and what it rests on where it is not on runs in the same environment."""
    if found.seconds is None:
        return "time left unknown until something is measured"
    left = f"{format_duration(found.seconds)} left"
    if found.unknown:
        return f"at least {left}: nothing like {found.unknown} of the cells is measured yet"
    if found.borrowed:
        return f"about {left}: {found.borrowed} by the pace of other environments"
    return left


def event_line(entry: Entry) -> str:
    """What became of a cell, in a line."""
    cell = entry.cell.name
    match entry.state:
        case State.RUNNING:
            verb = "goes on" if entry.progress.step else "begins"
            return f"{cell} {verb}" + (f" at step {entry.progress.step:,}" if entry.progress.step else "")
        case State.DONE:
            return f"{cell} is done: last score {score_words(entry)}"
        case State.FAILED:
            return f"{cell} failed: {entry.error}"
        case State.WAITING if entry.error:
            return f"{cell} failed and will be tried again: {entry.error}"
        case _:
            return f"{cell}: {entry.state.value}"


def plain_line(board: Board) -> str:
    """`3 done, 2 running, 7 waiting  41%  2:10:07 left`, then the running cells."""
    counts = ", ".join(f"{count} {state.value}" for state, count in board.counts().items())
    running = [f"{entry.cell.name} {done_words(entry)}" for entry in board.of(State.RUNNING)]
    ending = f"  ({'; '.join(running)})" if running else ""
    left = estimate_words(board.estimate())
    over = not board.of(State.RUNNING, State.WAITING, State.ELSEWHERE)
    return f"{counts}  {board.fraction:.0%}  " + ("finished" if over else left) + ending

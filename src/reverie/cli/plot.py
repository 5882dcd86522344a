"""`reverie plot`: draw the learning curves of runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.text import Text

from reverie.cli.options import UsageError, console, parse


@dataclass(frozen=True)
class Plot:
    """Draw returns, reconstruction loss and KL of runs over environment frames.

    Runs in the same environment are drawn as one curve, their mean, with a band from the least to the greatest.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN...")]
    """Folders of runs, or their metrics.jsonl."""
    out: Path = Path("learning-curve.png")
    """Figure to write: .png, .svg or .pdf."""


def run(argv: list[str]) -> None:
    """Draw, name the file, and show the returns in the terminal."""
    command, _ = parse("plot", Plot, argv)
    if not command.runs:
        raise UsageError("Say what to draw: reverie plot RUN...")

    from reverie.analysis.curves import plot_learning_curve

    figure = plot_learning_curve(command.runs, command.out)
    for one in command.runs:
        print_returns(one)
    console().print(f"Wrote {figure}", markup=False)


def print_returns(folder: Path) -> None:
    """Draw the returns of a run's training episodes with characters, if there are any."""
    from reverie.analysis.curves import curve
    from reverie.analysis.terminal import terminal_curve
    from reverie.training.metrics import read_metrics

    line = curve(read_metrics(folder), "train/return")
    if len(line):
        drawing = terminal_curve(list(zip(line.frames.tolist(), line.values.tolist(), strict=True)))
        console().print(Text.assemble((f"{folder}", "bold"), ": return of training episodes over frames\n", drawing))

"""`reverie plot`: draw the learning curves of runs."""

from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from reverie.cli.console import console, require, say


@dataclass(frozen=True)
class Plot:
    """Draw returns, reconstruction loss and KL of runs over environment frames.

    Runs that differ in the seed alone share a colour: their mean, and a band from the least to the greatest, as far as
    all of them go. Others are drawn apart, labelled by what differs. To compare scores, see reverie report.
    """

    runs: tuple[Path, ...]
    """Folders of runs, or folders that hold some."""
    out: Path = Path("learning-curve.png")
    """Figure to write: .png, .svg or .pdf."""

    def __call__(self) -> None:
        require(self.runs, "Say what to draw: reverie plot RUN...")

        from reverie.analysis.plot import plot_learning_curve
        from reverie.analysis.runs import locate

        figure = plot_learning_curve(self.runs, self.out)
        for run in (run for path in self.runs for run in locate(path)):
            print_returns(run)
        say(f"Wrote {figure}")


def print_returns(folder: Path) -> None:
    """Draw the returns of a run's training episodes with characters, if there are any."""
    from reverie.analysis.curves import curve
    from reverie.analysis.terminal import terminal_curve
    from reverie.runs.metrics import read_metrics

    line = curve(read_metrics(folder), "episode/return")
    if len(line):
        drawing = terminal_curve(list(zip(line.frames.tolist(), line.values.tolist(), strict=True)))
        console().print(Text.assemble((f"{folder}", "bold"), ": return of training episodes over frames\n", drawing))

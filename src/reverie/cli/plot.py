"""`reverie plot`: draw the learning curves of runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.cli.console import require, require_positive, say

if TYPE_CHECKING:
    from reverie.analysis.runs import Run

BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Plot:
    """Draw a metric of runs over environment frames: by default the returns of training and evaluation.

    Runs that differ in the seed alone share a colour: their mean, and a band from the least to the greatest, as far as
    all of them go. Others are drawn apart, labelled by what differs. To compare scores, see reverie report.
    """

    runs: tuple[Path, ...]
    """Folders of runs, or folders that hold some, such as a sweep."""
    out: Path = Path("learning-curve.png")
    """Figure to write: .png, .svg or .pdf."""
    metric: str = "return"
    """A metric of the runs, such as model/kl; return is that of training episodes and evaluations."""
    smooth: int | None = None
    """Rows of a moving average; the curve itself stays, faint. By default returns of training episodes alone are
    smoothed, over a tenth."""
    published: bool = False
    """Draw DreamerV2's published curve, too: of Atari from 1M frames on, of DeepMind Control from pixels."""

    def __call__(self) -> None:
        require(self.runs, "Say what to draw: reverie plot RUN...")
        require_positive(self, "smooth")

        from reverie.analysis.plot import plot_learning_curve
        from reverie.analysis.runs import find_runs

        runs, unreadable = find_runs(self.runs)
        figure = plot_learning_curve(runs, self.out, self.metric, self.smooth, self.published)
        for run in runs:
            print_curve(run, self.metric)
        for each in unreadable:
            say(("note: ", "yellow"), f"{each.path} is left out. {each.reason}")
        say(f"Wrote {figure}")


def print_curve(run: "Run", metric: str = "return") -> None:
    """Print a metric of a run as a row of bars, if it has any; `return` is that of training episodes."""
    import numpy as np

    from reverie.analysis.format import frames_text, score_text

    line = run.curve("episode/return" if metric == "return" else metric)
    if len(line):
        values = np.array([part.mean() for part in np.array_split(line.values, min(len(line), 60))])
        low, high = values.min(), values.max()
        heights = np.rint((values - low) / ((high - low) or 1) * (len(BARS) - 1)).astype(int)
        name = "return of training episodes" if metric == "return" else metric
        ends = f"{score_text(low)} to {score_text(high)}, {frames_text(line.frames[-1])} frames"
        say((f"{run.path}", "bold"), f": {name}  ", ("".join(BARS[height] for height in heights), "cyan"), f"  {ends}")

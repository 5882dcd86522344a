"""One style for all figures: colours, axes, and files."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from reverie.errors import ReverieError
from reverie.runs.atomic_io import atomic_path

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette for colour-blind readers; its yellow is too light for paper."""
INK, GREY, PALE = "#333333", "#999999", "#dddddd"
DASHED = (0, (4, 2))
SUFFIXES = (".svg", ".png", ".pdf")


def make_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, x: str = "", y: str = "", title: str = "") -> None:
    """Give axes their labels and the common look."""
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=3)
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)


def style_frames(axes: Axes, num_ticks: int = 5) -> None:
    """Label the horizontal axis with environment frames such as `250k`."""
    axes.set_xlabel("environment frames", fontsize=8, color=INK)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(num_ticks, steps=[1, 2, 2.5, 5, 10]))


def write_text(axes: Axes, text: str, x: float = 0.5, y: float = 0.5, **style: Any) -> None:
    """Write small text at a place given in fractions of the axes."""
    axes.text(x, y, text, transform=axes.transAxes, **{"ha": "center", "color": GREY, "fontsize": 8, **style})


def legend_above(figure: Figure, axes: Axes, letters: int) -> None:
    """Add the legend of axes above them, with lines of so many letters, and its height to the figure."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        columns = 2 if max(map(len, names)) <= letters // 2 else 1
        labels = [textwrap.fill(name, letters) for name in names]
        lines = sum(label.count("\n") + 1 for label in labels) / columns
        figure.set_figheight(figure.get_figheight() + 0.15 * lines)
        style: dict[str, Any] = {"frameon": False, "fontsize": 8, "labelcolor": INK, "labelspacing": 0.3}
        figure.legend(handles, labels, ncols=columns, loc="outside upper left", handlelength=3.2, **style)


def check_suffix(out: Path) -> None:
    """Raise ReverieError unless the file's ending is one of `SUFFIXES`."""
    if out.suffix.lower() not in SUFFIXES:
        raise ReverieError(f"Cannot draw '{out}': its ending must be one of {', '.join(SUFFIXES)}.")


def save_figure(figure: Figure, out: Path, dpi: int) -> Path:
    """Write a figure atomically to a file of one of `SUFFIXES`; the same figure gives the same bytes."""
    check_suffix(out)
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix.lower())
    with atomic_path(out) as temporary, matplotlib.rc_context({"svg.hashsalt": "reverie"}):
        figure.savefig(temporary, dpi=dpi, metadata=metadata)
    return out

"""The report as one page of pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reverie.analysis.curves import SUFFIXES
from reverie.analysis.diagnose import panels
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import Finding
from reverie.errors import ReverieError
from reverie.runs.atomic_io import replacing

PANELS: tuple[tuple[Callable[[Axes, Report], None], str], ...] = (
    (panels.kl_per_variable, "KL by latent variable"),
    (panels.class_usage, "Use of the classes"),
    (panels.open_loop, "Open-loop error"),
    (panels.reward_reliability, "Reward: predicted and actual"),
    (panels.discount_reliability, "End of episode: predicted and actual"),
    (panels.values, "Value and return"),
    (panels.actions, "Actions"),
    (panels.actor_entropy, "Actor entropy"),
    (panels.gradients, "Gradient norms"),
)
COLUMNS = 3
SHOWN_FINDINGS = 6


def check_ending(out: Path) -> None:
    """Refuse a figure that cannot be written.

    Raises:
        ReverieError: if its ending is not one of `SUFFIXES`.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ReverieError(f"Cannot draw '{out}': its ending must be one of {', '.join(SUFFIXES)}.")


def draw(report: Report, findings: Sequence[Finding], out: Path) -> Path:
    """Draw all panels.

    Args:
        report: what was measured.
        findings: named in the title, worst first.
        out: ends in .svg, .png or .pdf.

    Returns:
        `out`.

    Raises:
        ReverieError: if the ending is another one, or the file cannot be written.
    """
    check_ending(out)
    figure = Figure(figsize=(11.0, 9.6), layout="constrained")
    FigureCanvasAgg(figure)
    rows = -(-len(PANELS) // COLUMNS)
    for number, (panel, title) in enumerate(PANELS, 1):
        axes = figure.add_subplot(rows, COLUMNS, number)
        axes.set_title(title, fontsize=10, loc="left", color="#222222")
        panels.dress(axes)
        panel(axes, report)
    figure.suptitle(_title(report, findings), fontsize=10, x=0.01, ha="left", color="#222222", linespacing=1.4)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr,call-arg]
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix.lower())
    with replacing(out) as temporary, matplotlib.rc_context({"svg.hashsalt": "reverie"}):
        figure.savefig(temporary, dpi=130, metadata=metadata)
    return out


def _title(report: Report, findings: Sequence[Finding]) -> str:
    head = (
        f"{report.config.env.name}: {report.frames:,} frames, {report.updates:,} updates; "
        f"{report.steps_seen:,} steps of the replay"
    )
    named = [f"{finding.severity}: {finding.rule}" for finding in findings if finding.severity != "ok"]
    rest = len(named) - SHOWN_FINDINGS
    more = [f"and {rest} more"] if rest > 0 else []
    return f"{head}\n{'   '.join([*named[:SHOWN_FINDINGS], *more]) or 'nothing found'}"

"""The report as one page of panels."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from reverie.analysis.charts import INK, check_suffix, make_figure, save_figure, style_axes
from reverie.analysis.diagnose import panels
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import Finding

PANELS: dict[str, Callable[[Axes, Report], None]] = {
    "KL by latent variable": panels.kl_per_variable,
    "Use of the classes": panels.class_usage,
    "Open-loop error": panels.open_loop,
    "Reward: predicted and actual": panels.reward_reliability,
    "End of episode: predicted and actual": panels.discount_reliability,
    "Value and return": panels.values,
    "Actions": panels.actions,
    "Actor entropy": panels.actor_entropy,
    "Gradient norms": panels.gradients,
}
SHOWN_FINDINGS = 6


def draw(report: Report, findings: Sequence[Finding], out: Path) -> Path:
    """Draw all panels under a title that names the worst findings.

    Raises:
        ReverieError: if the ending is not .svg, .png or .pdf, or the file cannot be written.
    """
    check_suffix(out)
    figure = make_figure(11.0, 9.6)
    for axes, (title, panel) in zip(figure.subplots(3, 3).flat, PANELS.items(), strict=True):
        style_axes(axes, title=title)
        panel(axes, report)
    figure.suptitle(_title(report, findings), fontsize=10, x=0.01, ha="left", color=INK, linespacing=1.4)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr,call-arg]
    return save_figure(figure, out, dpi=130)


def _title(report: Report, findings: Sequence[Finding]) -> str:
    head = (
        f"{report.config.env.name}: {report.frames:,} frames, {report.updates:,} updates; "
        f"{report.steps_seen:,} steps of the replay"
    )
    named = [f"{finding.severity}: {finding.rule}" for finding in findings if finding.severity != "ok"]
    if len(named) > SHOWN_FINDINGS:
        named[SHOWN_FINDINGS:] = [f"and {len(named) - SHOWN_FINDINGS} more"]
    return f"{head}\n{'   '.join(named) or 'nothing found'}"

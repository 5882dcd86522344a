"""The page about runs: self-contained HTML that runs no script, from the templates."""

import base64
import io
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.ticker import EngFormatter

from reverie.analysis import charts, scores
from reverie.analysis.charts import COLORS
from reverie.analysis.comparison import Comparison, Entry
from reverie.analysis.format import frames_text, interval_text, listed, plural, score_text
from reverie.analysis.plot import draw_published, draw_runs
from reverie.analysis.published import BASELINES, VARIANTS, Variant, game_scores, task
from reverie.analysis.report.notes import Note, recorded
from reverie.analysis.runs import Run
from reverie.analysis.statistics import KINDS, SuiteScores
from reverie.provenance import reverie_version

FEW = 5  # number of seeds below which their number is marked
LEVELS = {"random": (1, 3), "gamer": (6, 4)}
"""Dashes."""


def write_page(comparison: Comparison, found: Sequence[SuiteScores], known: Sequence[Note]) -> str:
    """Return the page as HTML."""
    runs, places = comparison.runs, comparison.environments
    variants = scores.variants_of(run for run in runs if task(run.environment))
    agents = f"{len(comparison.agents)} agents" if len(comparison.agents) > 1 else comparison.agents[0]
    # Black, the last colour, is for what was published.
    colors = {agent: COLORS[index % (len(COLORS) - 1)] for index, agent in enumerate(comparison.agents)}
    context = {
        "title": f"{agents} in {listed(list(places), 3)}",
        "made": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} with reverie {reverie_version()}",
        "notes": known,
        "comparison": comparison,
        "colors": colors,
        "few": FEW,
        "curves": {name: _curves(entries, colors) for name, entries in places.items()},
        "references": {name: scores.references(name, each[0].frames, variants) for name, each in places.items()},
        "suites": [(one, _published(comparison, one, variants)) for one in found],
        "kinds": KINDS,
        "folder": os.path.commonpath([run.path.absolute().parent for run in runs]),
        "commands": recorded(runs, "command"),
    }
    return _templates().get_template("runs.html").render(context)


def _machine(run: Run) -> str:
    """Return processor or GPU, threads, precision and PyTorch of the run's last start; empty if not recorded."""
    start = run.starts[-1] if run.starts else {}
    names = ["cpu" if start.get("device") in (None, "cpu") else "device", "threads", "precision", "torch"]
    units = {"threads": "threads ", "torch": "torch "}
    return ", ".join(f"{units.get(name, '')}{start[name]}" for name in names if start.get(name))


def _curves(entries: Sequence[Entry], colors: Mapping[str, str]) -> tuple[Markup, str]:
    """Return the learning curves of an environment as a picture, and its caption.

    DreamerV2's published curves are drawn as far as the runs go, and a gamer's and random scores where they are near.
    """
    runs, name = [run for entry in entries for run in entry.runs], entries[0].environment
    game, end = game_scores(name), max(run.frames for run in runs)
    figure = charts.make_figure(4.8, 2.8)  # small, so that letters of 8 points are still legible on a phone
    axes, caption = figure.add_subplot(), ""
    for entry in entries:
        draw_runs(axes, entry.runs, entry.counted, entry.agent, colors[entry.agent])
    for variant in scores.variants_of(runs):
        start = draw_published(axes, name, variant, end)
        if start is not None and start > end:
            caption = f"DreamerV2's published curve begins at {frames_text(start)} frames, beyond these runs."
    low, high = axes.get_ylim()
    for who, level in (("random", game.random), ("gamer", game.gamer)) if game else ():
        if low - 0.35 * (high - low) <= level <= high + 0.35 * (high - low):
            axes.axhline(level, color=charts.INK, linewidth=0.8, linestyle=(0, LEVELS[who]), zorder=1, label=who)
    charts.style_axes(axes, y="return")
    charts.style_frames(axes)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, 1.02 * end)
    charts.legend_above(figure, axes, 56)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "reverie"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    means = [f"{entry.agent}, {plural(entry.n, 'seed')}, mean {score_text(entry.mean)}" for entry in entries]
    description = f"Learning curves in {name}: {'; '.join(means)} at {frames_text(entries[0].frames)} frames."
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(description, data), caption


def _published(comparison: Comparison, found: SuiteScores, variants: Sequence[Variant]) -> dict[str, dict[str, float]]:
    """Return the aggregates of published agents with a score in every game of a suite; at 200M frames if not named."""
    names = found.environments
    games = [one.name for name in names if (one := task(name))] if found.suite == "atari" else []
    rows = {f"{heading}, published": scores.published_scores(name) for name, heading in BASELINES.items()}
    for variant in variants if games else ():
        at = [scores.published_at(name, variant, comparison.environments[name][0].frames) for name in names]
        rows[f"DreamerV2 ({variant}), published, at the same frames"] = dict(zip(games, at, strict=True))
    rows |= {f"DreamerV2 ({variant}), published": scores.published_scores(variant) for variant in VARIANTS}
    return {
        label: scores.aggregate({game: by_game[game] for game in games})
        for label, by_game in rows.items()
        if games and all(math.isfinite(by_game.get(game, math.nan)) for game in games)
    }


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("reverie.analysis.report")
    strict: dict[str, Any] = {"autoescape": True, "undefined": jinja2.StrictUndefined}
    templates = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, **strict)
    templates.filters |= {
        "frames": frames_text,
        "interval": lambda estimate, digits=3: interval_text(estimate.point, estimate.low, estimate.high, digits),
        "listed": listed,
        "machine": _machine,
        "plural": plural,
        "relative": lambda path, folder: os.path.relpath(path.absolute(), folder),
        "score": score_text,
    }
    return templates

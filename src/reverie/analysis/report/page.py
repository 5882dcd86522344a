"""The page about runs: self-contained HTML that runs no script, from the templates."""

import io
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from reverie.analysis.comparison import Comparison, Environment
from reverie.analysis.format import frames_text, interval_text, listed, plural, score_text, spread_text
from reverie.analysis.published import BASELINES, Variant, curve, game_scores, task
from reverie.analysis.report import figures
from reverie.analysis.report.notes import FEW, Note, recorded
from reverie.analysis.report.references import HUMANS, reference_aggregates, reference_scores, variants_of
from reverie.analysis.runs import Run
from reverie.analysis.scores import normalised_scores
from reverie.analysis.statistics import KINDS, WITHOUT, Statistics, title_of
from reverie.provenance import reverie_version

SUITES = {"atari": "Atari", "dmc": "DeepMind Control Suite"}
UNITS = {"atari": "gamer-normalised score", "dmc": "return / 1000"}
NORMALISED = {"gamer": "gamer-normalised", "record": "record-normalised", "dmc": "return / 1000"}


class Drawn(NamedTuple):
    """A figure on the page."""

    svg: Markup
    title: str
    caption: str


def draw(comparison: Comparison, found: Sequence[Statistics]) -> dict[str, Figure]:
    """Return every figure of the page, by the name of its files."""
    places, agents = comparison.environments, comparison.agents
    drawn = {f"curves-{_slug(place.name)}": figures.learning_curves(place, agents) for place in places}
    for one in found:
        suite = one.matrix.suite
        drawn[f"aggregates-{suite}"] = figures.aggregates(one, agents)
        drawn[f"profiles-{suite}"] = figures.profiles(one, agents, UNITS[suite])
    return drawn


def write_page(
    comparison: Comparison, found: Sequence[Statistics], known: Sequence[Note], drawn: Mapping[str, Figure]
) -> str:
    """Return the page as HTML."""
    runs, places = comparison.runs, comparison.environments
    variants = variants_of(run for run in runs if task(run.environment))
    has_atari = any(game_scores(place.name) for place in places)
    columns = [(heading, "n", "humans") for heading in HUMANS] if has_atari else []
    columns += [(heading, "n", "agents at 200M") for heading in BASELINES.values()] if has_atari else []
    for variant in variants:
        group = f"DreamerV2 ({variant})" if has_atari else "DreamerV2"
        columns += [("same frames", "n", group), ("200M" if has_atari else "end", "n", group)]
    normalised = {
        place.name: [(entry, normalised_scores(place.name, entry.mean)) for entry in place.entries if entry.n]
        for place in places
        if normalised_scores(place.name, 0.0)
    }
    kinds = [kind for kind in NORMALISED if any(kind in cells for rows in normalised.values() for _, cells in rows)]
    agents = f"{len(comparison.agents)} agents" if len(comparison.agents) > 1 else comparison.agents[0]
    return (
        _templates()
        .get_template("runs.html")
        .render(
            title=f"{agents} in {listed([place.name for place in places], 3)}",
            states={state: sum(run.status == state for run in runs) for state in ("finished", "running", "stopped")},
            commits=[f"commit {commit}" for commit in recorded(runs, "commit")],
            machines=list(dict.fromkeys(filter(None, map(_machine, runs)))),
            made=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} with reverie {reverie_version()}",
            notes=known,
            comparison=comparison,
            colors={agent: figures.style(index)["color"] for index, agent in enumerate(comparison.agents)},
            few=FEW,
            curves={place.name: _drawn_curves(place, drawn) for place in places},
            reference_columns=columns,
            references={
                place.name: reference_scores(place.name, place.frames, variants, has_atari) for place in places
            },
            normalised={
                name: [
                    (entry, [score_text(cells[kind], 3) if kind in cells else "–" for kind in kinds])
                    for entry, cells in rows
                ]
                for name, rows in normalised.items()
                if rows
            },
            normalised_columns=[(NORMALISED[kind], "n", "") for kind in kinds],
            suites=[_suite(comparison, one, drawn, variants) for one in found],
            without_intervals=WITHOUT,
            runs=[(entry, run, entry.scores.get(run.seed)) for entry in comparison.entries for run in entry.runs],
            folder=os.path.commonpath([run.path.absolute().parent for run in runs]),
            differing={
                name: describe
                for name, describe in {"commit": _commit, "machine": _machine}.items()
                if len(set(map(describe, runs))) > 1
            },
            commands=recorded(runs, "command"),
        )
    )


def _commit(run: Run) -> str:
    return str(run.starts[-1].get("commit") or "") if run.starts else ""


def _machine(run: Run) -> str:
    """Return processor or GPU, threads, precision and PyTorch of the run's last start; empty if not recorded."""
    start = run.starts[-1] if run.starts else {}
    device, threads = start.get("device"), start.get("threads")
    texts = [
        str(start.get("cpu") or "") if device in (None, "cpu") else str(device),
        plural(threads, "thread") if isinstance(threads, int) else "",
        str(start.get("precision") or ""),
        f"torch {start['torch']}" if start.get("torch") else "",
    ]
    return ", ".join(filter(None, texts))


def _drawn_curves(place: Environment, drawn: Mapping[str, Figure]) -> Drawn:
    name = f"curves-{_slug(place.name)}"
    words = "; ".join(
        f"{entry.agent}, {plural(entry.n, 'seed')}, mean {score_text(entry.mean)} at {frames_text(place.frames)} frames"
        for entry in place.entries
    )
    caption = f"Returns of {listed(sorted({figures.entry_curves(entry)[0] for entry in place.entries}))}."
    starts = [line.frames[0] for variant in variants_of(place.runs) if (line := curve(place.name, variant))]
    if starts and min(starts) > max(run.frames for run in place.runs):
        caption += f" DreamerV2's published curve begins at {frames_text(min(starts))} frames, beyond these runs."
    return Drawn(_inline_svg(drawn[name], name, f"Learning curves in {place.name}: {words}."), place.name, caption)


def _suite(
    comparison: Comparison, found: Statistics, drawn: Mapping[str, Figure], variants: Sequence[Variant]
) -> dict[str, Any]:
    matrix, suite, kinds, unit = found.matrix, found.matrix.suite, found.kinds, UNITS[found.matrix.suite]
    frames = {place.name: place.frames for place in comparison.environments}
    published = reference_aggregates(matrix, frames, variants) if suite == "atari" else {}
    estimates = "; ".join(
        f"{agent}: " + ", ".join(f"{title_of(kind)} {score_text(value.point, 3)}" for kind, value in values.items())
        for agent, values in found.aggregates.items()
    )
    shares = f"Share of runs whose {unit} is above each threshold"
    pictures = {"aggregates": f"Aggregates: {estimates}.", "profiles": f"Performance profiles: {shares}."}
    return {
        "suite": suite,
        "title": SUITES[suite],
        "environments": listed(matrix.environments, 60),
        "found": found,
        "columns": [(KINDS[kind][0], "n", KINDS[kind][1]) for kind in kinds],
        "published": {
            name: [score_text(values[kind], 3) if kind in values else "–" for kind in kinds]
            for name, values in published.items()
        },
        "has_intervals": found.has_intervals and any(len(scores) > 1 for scores in matrix.scores.values()),
        "unit": unit,
        "svgs": {
            name: _inline_svg(drawn[f"{name}-{suite}"], f"{name}-{suite}", text) for name, text in pictures.items()
        },
    }


def _slug(text: str) -> str:
    """Return a name for files and ids: letters, digits and hyphens."""
    return "-".join(re.findall(r"[^\W_]+", text))


def _inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """Return the figure as an element of a page, as wide as its place there; every id in it starts with its name.

    Its text stays text, so that it can be searched, copied and read aloud.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    # Without width and height it takes those of its place; the view box keeps the shape.
    text = re.sub(r' (width|height)="[^"]*"', "", text, count=2)
    # The page's own font: text is placed by its anchor, so that other widths do no harm.
    text = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 sans-serif", text)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1).strip())


def _breakable(name: str) -> Markup:
    """Return a name that breaks between its words: after a slash, before a capital or a version."""
    return Markup(re.sub(r"(?<=/)|(?<=[a-z])(?=[A-Z])|(?=-v\d)", "<wbr>", str(escape(name))))


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("reverie.analysis.report")
    strict: dict[str, Any] = {"autoescape": True, "undefined": jinja2.StrictUndefined}
    templates = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, **strict)
    templates.filters |= {
        "breakable": _breakable,
        "frames": frames_text,
        "listed": listed,
        "interval": lambda one, digits=3: interval_text(one.point, one.low, one.high, digits),
        "plural": plural,
        "relative": lambda path, folder: os.path.relpath(Path(path).absolute(), folder),
        "runs": lambda items: [(item, len(list(group))) for item, group in itertools.groupby(items)],
        "score": score_text,
        "spread": spread_text,
    }
    return templates

"""The page about runs."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from reverie.analysis.comparison import Comparison, Entry, Environment
from reverie.analysis.format import frames_text, listed, plural, score_text
from reverie.analysis.published import BASELINES, Variant, curve, game_scores, task
from reverie.analysis.report import figures
from reverie.analysis.report.notes import FEW, Note, commits_of
from reverie.analysis.report.page import inline_svg, render, slug
from reverie.analysis.report.references import HUMANS, reference_aggregates, reference_scores, variants_of
from reverie.analysis.runs import Run
from reverie.analysis.scores import normalised_scores
from reverie.analysis.statistics import KINDS, WITHOUT, Statistics, title_of
from reverie.provenance import reverie_version

SUITES = {"atari": "Atari", "dmc": "DeepMind Control Suite"}
UNITS = {"atari": "gamer-normalised score", "dmc": "return / 1000"}
NORMALISED = {"gamer": "gamer-normalised", "record": "record-normalised", "dmc": "return / 1000"}

Column = tuple[str, str, str]  # heading, class, and the heading of a group of columns


class Drawn(NamedTuple):
    """A figure on the page."""

    svg: Markup
    title: str
    caption: str


def draw(comparison: Comparison, found: Sequence[Statistics]) -> dict[str, Figure]:
    """Return every figure of the page, by the name of its files."""
    drawn = {
        f"curves-{slug(place.name)}": figures.learning_curves(place, comparison.agents)
        for place in comparison.environments
    }
    for one in found:
        drawn[f"aggregates-{one.matrix.suite}"] = figures.aggregates(one, comparison.agents)
        drawn[f"profiles-{one.matrix.suite}"] = figures.profiles(one, comparison.agents, UNITS[one.matrix.suite])
    return drawn


def write_page(
    comparison: Comparison, found: Sequence[Statistics], known: Sequence[Note], drawn: Mapping[str, Figure]
) -> str:
    """Return the page as HTML."""
    runs = comparison.runs
    variants = variants_of(run for run in runs if task(run.environment))
    has_atari = any(game_scores(place.name) for place in comparison.environments)
    places = listed([place.name for place in comparison.environments], 3)
    agents = f"{len(comparison.agents)} agents" if len(comparison.agents) > 1 else comparison.agents[0]
    commands = [str(start["command"]) for run in runs for start in run.starts if start.get("command")]
    normalised = {
        place.name: [(entry, _normalised(entry)) for entry in place.entries if entry.n]
        for place in comparison.environments
        if normalised_scores(place.name, 0.0)
    }
    kinds = [kind for kind in NORMALISED if any(kind in cells for rows in normalised.values() for _, cells in rows)]
    describe = {"commit": commit_of, "machine": machine_of}
    return render(
        "runs.html",
        title=f"{agents} in {places}",
        facts=_facts(comparison),
        notes=known,
        comparison=comparison,
        colors=figures.palette(comparison),
        few=FEW,
        curves={place.name: _drawn_curves(place, drawn) for place in comparison.environments},
        reference_columns=_reference_columns(variants, has_atari),
        references={p.name: reference_scores(p.name, p.frames, variants, has_atari) for p in comparison.environments},
        normalised={
            name: [(entry, [cells.get(kind, "–") for kind in kinds]) for entry, cells in rows]
            for name, rows in normalised.items()
            if rows
        },
        normalised_columns=[(NORMALISED[kind], "n", "") for kind in kinds],
        suites=[_suite(comparison, one, drawn, variants) for one in found],
        without_intervals=WITHOUT,
        runs=[(entry, run, entry.scores.get(run.seed)) for entry in comparison.entries for run in entry.runs],
        folder=os.path.commonpath([run.path.absolute().parent for run in runs]),
        differing={name: function for name, function in describe.items() if len(set(map(function, runs))) > 1},
        commands=list(dict.fromkeys(commands)),
    )


def _facts(comparison: Comparison) -> dict[str, str]:
    runs = comparison.runs
    states = {state: sum(run.status == state for run in runs) for state in ("finished", "running", "stopped")}
    return {
        "Compared": f"{plural(len(runs), 'run')} ({', '.join(f'{n} {state}' for state, n in states.items() if n)}) of "
        f"{plural(len(comparison.agents), 'agent')} in {plural(len(comparison.environments), 'environment')}",
        "Score": "mean of the evaluations in the last tenth of the frames up to those of the comparison",
        "Code": listed([f"commit {commit}" for commit in commits_of(runs)]) or "not noted by these runs",
        "Machines": listed(list(dict.fromkeys(filter(None, map(machine_of, runs)))), 3) or "not noted by these runs",
        "Made": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} with reverie {reverie_version()}",
    }


def _drawn_curves(place: Environment, drawn: Mapping[str, Figure]) -> Drawn:
    name = f"curves-{slug(place.name)}"
    words = "; ".join(
        f"{entry.agent}, {plural(entry.n, 'seed')}, mean {score_text(entry.mean)} at {frames_text(place.frames)} frames"
        for entry in place.entries
    )
    runs = [run for entry in place.entries for run in entry.runs]
    caption = f"Returns of {listed(sorted({figures.entry_curves(entry)[0] for entry in place.entries}))}."
    starts = [line.frames[0] for variant in variants_of(runs) if (line := curve(place.name, variant)) is not None]
    if starts and min(starts) > max(run.frames for run in runs):
        caption += f" DreamerV2's published curve begins at {frames_text(min(starts))} frames, beyond these runs."
    return Drawn(inline_svg(drawn[name], name, f"Learning curves in {place.name}: {words}."), place.name, caption)


def _reference_columns(variants: Sequence[Variant], has_atari: bool) -> list[Column]:
    columns = [(heading, "n", "humans") for heading in HUMANS] if has_atari else []
    columns += [(heading, "n", "agents at 200M") for heading in BASELINES.values()] if has_atari else []
    for variant in variants:
        group = f"DreamerV2 ({variant})" if has_atari else "DreamerV2"
        columns += [("same frames", "n", group), ("200M" if has_atari else "end", "n", group)]
    return columns


def _normalised(entry: Entry) -> dict[str, str]:
    return {kind: score_text(value, 3) for kind, value in normalised_scores(entry.environment, entry.mean).items()}


def _suite(
    comparison: Comparison, found: Statistics, drawn: Mapping[str, Figure], variants: Sequence[Variant]
) -> dict[str, Any]:
    matrix, suite, kinds = found.matrix, found.matrix.suite, found.kinds
    frames = {place.name: place.frames for place in comparison.environments}
    published = reference_aggregates(matrix, frames, variants) if suite == "atari" else {}
    has_intervals = found.has_intervals and any(len(scores) > 1 for scores in matrix.scores.values())
    bars = "Bars are 95 % stratified bootstrap intervals." if has_intervals else "There are no intervals here."
    bands = " Bands are pointwise 95 % intervals." if has_intervals else ""
    unit = UNITS[suite]
    share = f"Of all runs in all environments, the share whose {unit} is above the threshold. Higher is better."
    estimates = "; ".join(
        f"{agent}: " + ", ".join(f"{title_of(kind)} {score_text(value.point, 3)}" for kind, value in values.items())
        for agent, values in found.aggregates.items()
    )
    pictures = {
        "aggregates": ("Aggregates", estimates, f"{bars} Rows are numbered as in the legend."),
        "profiles": ("Performance profiles", f"Share of runs whose {unit} is above each threshold", share + bands),
    }
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
        "figures": [
            Drawn(inline_svg(drawn[f"{name}-{suite}"], f"{name}-{suite}", f"{title}: {text}."), title, caption)
            for name, (title, text, caption) in pictures.items()
        ],
    }


def commit_of(run: Run) -> str:
    """Return the commit of the run's last start; empty if it is not recorded."""
    return str(_last(run).get("commit") or "")


def machine_of(run: Run) -> str:
    """Return processor or GPU, threads, precision and PyTorch of the run's last start; empty if not recorded."""
    start = _last(run)
    device, threads = start.get("device"), start.get("threads")
    texts = [
        str(start.get("cpu") or "") if device in (None, "cpu") else str(device),
        plural(threads, "thread") if isinstance(threads, int) else "",
        str(start.get("precision") or ""),
        f"torch {start['torch']}" if start.get("torch") else "",
    ]
    return ", ".join(filter(None, texts))


def _last(run: Run) -> Mapping[str, Any]:
    return run.starts[-1] if run.starts else {}

"""The page about runs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from matplotlib.figure import Figure

from reverie.analysis.comparison import Comparison, Environment
from reverie.analysis.format import frames_text, listed, plural, score_text
from reverie.analysis.published import curve
from reverie.analysis.report import figures
from reverie.analysis.report.markup import escape, figure, page, section
from reverie.analysis.report.notes import Note, commits_of
from reverie.analysis.report.references import variants_of
from reverie.analysis.report.svg import inline_svg
from reverie.analysis.report.tables import (
    TITLES,
    aggregates_table,
    improvement_table,
    machine_of,
    normalised_table,
    runs_table,
    scores_table,
    shown_variants,
)
from reverie.analysis.statistics import WITHOUT, Statistics
from reverie.provenance import reverie_version

SUITES = {"atari": "Atari", "dmc": "DeepMind Control Suite"}
UNITS = {"atari": "gamer-normalised score", "dmc": "return / 1000"}


def slug(text: str) -> str:
    """A name for files and ids: letters, digits and hyphens."""
    return "-".join(filter(None, ("".join(c if c.isalnum() else " " for c in text)).split()))


def draw(comparison: Comparison, found: Sequence[Statistics]) -> dict[str, Figure]:
    """Every figure of the page, by the name of its files."""
    drawn = {
        f"curves-{slug(place.name)}": figures.learning_curves(place, comparison.agents)
        for place in comparison.environments
    }
    for one in found:
        drawn[f"aggregates-{one.matrix.suite}"] = figures.aggregates(one, TITLES, comparison.agents)
        drawn[f"profiles-{one.matrix.suite}"] = figures.profiles(one, comparison.agents, UNITS[one.matrix.suite])
    return drawn


def write_page(
    comparison: Comparison, found: Sequence[Statistics], known: Sequence[Note], drawn: Mapping[str, Figure]
) -> str:
    """The page as HTML."""
    colors = figures.palette(comparison)
    normalised = normalised_table(comparison, colors)
    sections = [
        section("know", "What to know first", _notes(known)),
        section("curves", "Learning curves", _curves_lead(), _curves(comparison, drawn)),
        section(
            "final",
            "Scores",
            scores_table(comparison, colors).html(),
            normalised.html() if normalised else "",
        ),
        *(_statistics(comparison, one, drawn, colors) for one in found),
        section("provenance", "Runs", runs_table(comparison).html(), _commands(comparison)),
    ]
    return page(_title(comparison), _lead(comparison), sections)


def _title(comparison: Comparison) -> str:
    places = listed([place.name for place in comparison.environments], 3)
    agents = f"{len(comparison.agents)} agents" if len(comparison.agents) > 1 else comparison.agents[0]
    return f"{agents} in {places}"


def _lead(comparison: Comparison) -> str:
    runs = comparison.runs
    states = [(state, sum(run.status == state for run in runs)) for state in ("finished", "running", "stopped")]
    facts = {
        "Compared": f"{plural(len(runs), 'run')} ({', '.join(f'{n} {state}' for state, n in states if n)}) of "
        f"{plural(len(comparison.agents), 'agent')} in {plural(len(comparison.environments), 'environment')}",
        "Score": "mean of the evaluations in the last tenth of the frames up to those of the comparison",
        "Code": listed([f"commit {commit}" for commit in commits_of(runs)]) or "not noted by these runs",
        "Machines": listed(list(dict.fromkeys(filter(None, map(machine_of, runs)))), 3) or "not noted by these runs",
        "Made": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} with reverie {reverie_version()}",
    }
    rows = "\n".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return f'<dl class="facts">\n{rows}\n</dl>'


def _notes(known: Sequence[Note]) -> str:
    if not known:
        return "<p>Every run is finished and counted, and no seed is missing.</p>"
    items = "\n".join(f"<li><b>{escape(note.topic)}.</b> {escape(note.text)}</li>" for note in known)
    return f'<ul class="notes">\n{items}\n</ul>'


def _curves_lead() -> str:
    return (
        "<p>A thin line is a seed. The thick line is the mean over seeds and the band reaches from the least to the "
        "greatest seed; both end where the first counted seed ends. A cross marks a run that stopped early. Black: "
        "DreamerV2's published mean and sample standard deviation over seeds, one point per million frames (control "
        "suite: 30k), as far as these runs go.</p>"
    )


def _curves(comparison: Comparison, drawn: Mapping[str, Figure]) -> str:
    parts = []
    for place in comparison.environments:
        name = f"curves-{slug(place.name)}"
        description = f"Learning curves in {place.name}: {_in_words(place)}."
        parts.append(figure(inline_svg(drawn[name], name, description), place.name, _curve_caption(place)))
    return f'<div class="figures">\n{chr(10).join(parts)}\n</div>'


def _in_words(place: Environment) -> str:
    return "; ".join(
        f"{entry.agent}, {plural(entry.n, 'seed')}, mean {score_text(entry.mean)} at {frames_text(place.frames)} frames"
        for entry in place.entries
    )


def _curve_caption(place: Environment) -> str:
    sources = {figures.entry_curves(entry)[0] for entry in place.entries}
    end = max(run.frames for entry in place.entries for run in entry.runs)
    texts = [f"Returns of {listed(sorted(sources))}."]
    starts = [
        line.frames[0]
        for variant in variants_of(run for entry in place.entries for run in entry.runs)
        if (line := curve(place.name, variant)) is not None
    ]
    if starts and min(starts) > end:
        texts.append(f"DreamerV2's published curve begins at {frames_text(min(starts))} frames, beyond these runs.")
    return escape(" ".join(texts))


def _statistics(
    comparison: Comparison, found: Statistics, drawn: Mapping[str, Figure], colors: Mapping[str, str]
) -> str:
    matrix = found.matrix
    suite = matrix.suite
    frames = {place.name: place.frames for place in comparison.environments}
    variants = shown_variants(comparison)
    table = aggregates_table(found, frames, variants, colors)
    comparison_table = improvement_table(found, colors)
    intervals = any(len(scores) > 1 for scores in matrix.scores.values()) and found.intervals
    how = "Bars are 95 % stratified bootstrap intervals." if intervals else "There are no intervals here."
    pictures = [
        (f"aggregates-{suite}", "Aggregates", "; ".join(_estimates_in_words(found))),
        (f"profiles-{suite}", "Performance profiles", f"Share of runs whose {UNITS[suite]} is above each threshold"),
    ]
    captions = [
        f"{how} Rows are numbered as in the legend.",
        f"Of all runs in all environments, the share whose {UNITS[suite]} is above the threshold. Higher is better."
        + (" Bands are pointwise 95 % intervals." if intervals else ""),
    ]
    shown = [
        figure(inline_svg(drawn[name], name, f"{title}: {text}."), title, escape(caption))
        for (name, title, text), caption in zip(pictures, captions, strict=True)
    ]
    return section(
        f"over-{suite}",
        f"Over {SUITES[suite]} environments",
        f"<p>{escape(listed(matrix.environments, 60))}.</p>",
        "" if found.intervals else f"<p><b>{escape(WITHOUT)}</b></p>",
        table.html(),
        f'<div class="figures">\n{chr(10).join(shown)}\n</div>',
        comparison_table.html() if comparison_table else "",
    )


def _estimates_in_words(found: Statistics) -> Iterator[str]:
    for agent, estimates in found.aggregates.items():
        yield f"{agent}: " + ", ".join(
            f"{TITLES[kind]} {score_text(value.point, 3)}" for kind, value in estimates.items()
        )


def _commands(comparison: Comparison) -> str:
    commands = [str(start["command"]) for run in comparison.runs for start in run.starts if start.get("command")]
    if not commands:
        return '<p class="soft">These runs do not say by which commands they were started.</p>'
    return f"<h3>Commands</h3>\n<pre>{escape(chr(10).join(dict.fromkeys(commands)))}</pre>"

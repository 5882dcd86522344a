"""The tables of a report about runs."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence

from reverie.analysis.comparison import Comparison, Entry, Environment, Matrix
from reverie.analysis.format import frames_text, interval_text, plural, score_text, spread_text
from reverie.analysis.published import BASELINES, VARIANTS, Variant, game_scores, task
from reverie.analysis.report.markup import Cell, Column, Span, Table, breakable, escape
from reverie.analysis.report.notes import FEW
from reverie.analysis.report.references import HUMANS, known_scores, published_at, published_end, variants_of
from reverie.analysis.runs import Run, Score
from reverie.analysis.scores import aggregate, normalised_scores, published_scores
from reverie.analysis.statistics import Estimate, Statistics

TITLES = {
    "gamer_iqm": "Interquartile mean, gamer-normalised",
    "gamer_median": "Median, gamer-normalised",
    "gamer_mean": "Mean, gamer-normalised",
    "record_mean": "Mean, record-normalised",
    "clipped_record_mean": "Mean, record-normalised, clipped at 1",
    "dmc_iqm": "Interquartile mean, return / 1000",
    "dmc_median": "Median, return / 1000",
    "dmc_mean": "Mean, return / 1000",
}
"""Of the aggregates."""
HEADS = {
    "gamer_iqm": ("interquartile mean", "gamer-normalised"),
    "gamer_median": ("median", "gamer-normalised"),
    "gamer_mean": ("mean", "gamer-normalised"),
    "record_mean": ("mean", "record-normalised"),
    "clipped_record_mean": ("mean, clipped at 1", "record-normalised"),
    "dmc_iqm": ("interquartile mean", "return / 1000"),
    "dmc_median": ("median", "return / 1000"),
    "dmc_mean": ("mean", "return / 1000"),
}
"""Of the columns of the aggregates, and of their groups."""


def agent_cell(agent: str, color: str) -> str:
    """An agent's name with its colour."""
    return f'<span class="swatch" style="border-color:{color}" aria-hidden="true"></span>{_parts(agent)}'


def _parts(agent: str) -> str:
    """The parts of a label, each on one line if it is short."""
    parts = agent.split(", ")
    return ", ".join(f'<span class="word">{escape(part)}</span>' if len(part) < 28 else escape(part) for part in parts)


def count_cell(count: int) -> str:
    """A number of seeds; a small one is marked."""
    return f'<span class="few">{count}</span>' if count < FEW else str(count)


def shown_variants(comparison: Comparison) -> tuple[Variant, ...]:
    """The published variants that the runs follow, of those in environments that something is published for."""
    return variants_of(run for run in comparison.runs if task(run.environment))


def scores_table(comparison: Comparison, colors: Mapping[str, str]) -> Table:
    """Scores of every agent in every environment, beside what is published for it."""
    atari = any(game_scores(place.name) for place in comparison.environments)
    variants = shown_variants(comparison)
    columns = [
        Column("environment", number=False), Column("agent", number=False, name=True), Column("n"),
        Column("score ± s.d."),
    ]  # fmt: skip
    if atari:
        columns += [Column(heading, "humans") for heading in HUMANS.values()]
        columns += [Column(heading, "agents at 200M") for heading in BASELINES.values()]
    for variant in variants:
        group = f"DreamerV2 ({variant})" if atari else "DreamerV2"
        columns += [Column("same frames", group), Column("200M" if atari else "end", group)]
    note = (
        "Undiscounted returns of raw rewards: mean over seeds ± sample standard deviation, at the same frames "
        f"for all agents of an environment. n is the number of seeds, <b class=few>marked</b> below {FEW}. Published "
        "numbers are of sticky actions; <i>same frames</i> is DreamerV2's published curve where these runs end, by "
        "the same rule. It is the full-size agent. – means that nothing was published."
    )
    table = Table("scores", "By environment", note, columns)
    for place in comparison.environments:
        for index, entry in enumerate(place.entries):
            first = index == 0
            rows = len(place.entries)
            known: list[Cell] = [
                Span(cell, rows) if first else None for cell in _reference_cells(place, variants, atari)
            ]
            table.rows.append(
                [
                    Span(f"{breakable(place.name)}<small>at {frames_text(place.frames)} frames</small>", rows)
                    if first
                    else None,
                    agent_cell(entry.agent, colors[entry.agent]),
                    count_cell(entry.n),
                    f"<b>{spread_text(entry.mean, entry.std)}</b>",
                    *known,
                ]
            )
    return table


def _reference_cells(place: Environment, variants: Sequence[Variant], atari: bool) -> list[str]:
    known = known_scores(place.name)
    cells = (
        [score_text(known.get(heading, math.nan)) for heading in (*HUMANS.values(), *BASELINES.values())]
        if atari
        else []
    )
    for variant in variants:
        cells.append(score_text(published_at(place.name, variant, place.frames)))
        cells.append(score_text(published_end(place.name, variant)))
    return cells


def normalised_table(comparison: Comparison, colors: Mapping[str, str]) -> Table | None:
    """Normalised mean scores; None if no environment has a normalisation."""
    entries = [entry for entry in comparison.entries if entry.n and normalised_scores(entry.environment, entry.mean)]
    if not entries:
        return None
    kinds = [kind for kind in ("gamer", "record", "dmc") if any(kind in _normalised(entry) for entry in entries)]
    heads = {"gamer": "gamer-normalised", "record": "record-normalised", "dmc": "return / 1000"}
    columns = [Column("environment", number=False), Column("agent", number=False, name=True), Column("n")]
    note = (
        "Gamer-normalised: (score − random) / (gamer − random); record-normalised: the same with the human world "
        "record. 0 is random play, 1 the human's score."
    )
    table = Table("normalised", "Normalised", note, columns + [Column(heads[kind]) for kind in kinds])
    counts = Counter(entry.environment for entry in entries)
    for entry in entries:
        values = _normalised(entry)
        cells = [score_text(values.get(kind, math.nan), 3) for kind in kinds]
        rows = counts.pop(entry.environment, 0)
        place = Span(breakable(entry.environment), rows) if rows else None
        table.rows.append([place, agent_cell(entry.agent, colors[entry.agent]), count_cell(entry.n), *cells])
    return table


def _normalised(entry: Entry) -> dict[str, float]:
    return normalised_scores(entry.environment, entry.mean)


def aggregates_table(
    found: Statistics, frames: Mapping[str, float], variants: Sequence[Variant], colors: Mapping[str, str]
) -> Table:
    """Aggregates of every agent with intervals, and for Atari those of published agents over the same games."""
    kinds = list(next(iter(found.aggregates.values())))
    matrix = found.matrix
    columns = [Column("agent", number=False, name=True), Column("n"), *(Column(*HEADS[kind]) for kind in kinds)]
    games = len(matrix.environments)
    note = (
        f"Over {games} {'environment' if games == 1 else 'environments'}. In brackets: 95 % stratified bootstrap "
        "interval over seeds. n: seeds in every environment. Published agents: over the same games, from their mean "
        "scores, so without interval and interquartile mean."
    )
    table = Table(f"aggregates-{matrix.suite}", "Aggregates", note, columns)
    for agent, estimates in found.aggregates.items():
        cells = [_estimate_cell(estimates[kind]) for kind in kinds]
        table.rows.append([agent_cell(agent, colors[agent]), count_cell(len(matrix.scores[agent])), *cells])
    if matrix.suite == "atari":
        for label, values in reference_aggregates(matrix, frames, variants).items():
            cells = [score_text(values[kind], 3) if kind in values else "–" for kind in kinds]
            table.rows.append([escape(label), "", *cells])
    return table


def reference_aggregates(
    matrix: Matrix, frames: Mapping[str, float], variants: Sequence[Variant]
) -> dict[str, dict[str, float]]:
    """Aggregates of published agents over the games of a matrix; only of those that have a score in every game.

    Args:
        matrix: whose games.
        frames: of the comparison, by environment.
        variants: of DreamerV2, at these frames; at 200M both are given.
    """
    games = {name: found.name for name in matrix.environments if (found := task(name))}
    rows = {f"{heading}, published, 200M": published_scores(name) for name, heading in BASELINES.items()}
    for variant in variants:
        at = {game: published_at(name, variant, frames[name]) for name, game in games.items()}
        rows[f"DreamerV2 ({variant}), published, at the same frames"] = at
    for variant in VARIANTS:
        rows[f"DreamerV2 ({variant}), published, 200M"] = published_scores(variant)
    aggregates = {}
    for label, scores in rows.items():
        here = {game: scores.get(game, math.nan) for game in games.values()}
        if all(map(math.isfinite, here.values())):
            summary = aggregate(here)
            aggregates[label] = {
                "gamer_median": summary.gamer_median,
                "gamer_mean": summary.gamer_mean,
                "record_mean": summary.record_mean,
                "clipped_record_mean": summary.clipped_record_mean,
            }
    return aggregates


def improvement_table(found: Statistics, colors: Mapping[str, str]) -> Table | None:
    """How probably a run of the row's agent beats one of the column's; None for a single agent."""
    agents = list(found.aggregates)
    if len(agents) < 2:
        return None
    note = (
        "Probability that a run of the row's agent scores more than one of the column's in an environment (ties "
        "count half), mean over environments, with 95 % intervals. 0.5: no difference."
    )
    columns = [Column("P(row > column)", number=False, name=True), *(Column(agent) for agent in agents)]
    table = Table(f"improvement-{found.matrix.suite}", "Probability of improvement", note, columns)
    for first in agents:
        cells = ["" if first == second else _estimate_cell(found.improvement[first, second], 2) for second in agents]
        table.rows.append([agent_cell(first, colors[first]), *cells])
    return table


def runs_table(comparison: Comparison) -> Table:
    """Every run: how far it got, its own score, and where they differ, commit and machine."""
    runs = comparison.runs
    columns = [
        Column("run", number=False, name=True), Column("environment", number=False),
        Column("agent", number=False, name=True), Column("seed"), Column("status", number=False), Column("frames"),
        Column("score"), Column("of", number=False),
    ]  # fmt: skip
    differing = [
        (name, f) for name, f in (("commit", commit_of), ("machine", machine_of)) if len(set(map(f, runs))) > 1
    ]
    columns += [Column(name, number=False) for name, _ in differing]
    folder = os.path.commonpath([run.path.absolute().parent for run in runs])
    note = (
        f"In {escape(folder)}. Frames: reached, of those planned. Score: at the frames of the comparison; of: what it "
        "is the mean of." + (" Commit and machine: of the last start." if differing else "")
    )
    table = Table("runs", "What each run did", note, columns)
    for entry in comparison.entries:
        for run in entry.runs:
            score = entry.scores.get(run.seed)
            table.rows.append(
                [
                    f"<code>{escape(os.path.relpath(run.path.absolute(), folder))}</code>",
                    breakable(run.environment),
                    _parts(entry.agent),
                    str(run.seed),
                    run.status + ("" if run in entry.counted else ", not counted"),
                    f"{frames_text(run.frames)} of {frames_text(run.frames_planned)}",
                    score_text(score.value if score else math.nan),
                    _source(score),
                    *(escape(describe(run) or "–") for _, describe in differing),
                ]
            )
    return table


def _source(score: Score | None) -> str:
    """`5 evaluations`, `1 training episode`."""
    return plural(score.rows, score.source.removesuffix("s")) if score else "–"


def commit_of(run: Run) -> str:
    """Commit of the run's last start; empty if it does not say."""
    return str(_last(run, "commit") or "")


def machine_of(run: Run) -> str:
    """Processor or GPU, threads, precision and PyTorch of the run's last start; empty if it does not say."""
    cpu, device, threads, torch = (_last(run, key) for key in ("cpu", "device", "threads", "torch"))
    processor = device if device not in (None, "cpu") else cpu
    texts = [
        str(processor or ""),
        plural(threads, "thread") if isinstance(threads, int) else "",
        str(_last(run, "precision") or ""),
        f"torch {torch}" if torch else "",
    ]
    return ", ".join(filter(None, texts))


def _last(run: Run, key: str) -> object:
    return run.starts[-1].get(key) if run.starts else None


def _estimate_cell(estimate: Estimate, digits: int = 3) -> str:
    return interval_text(*estimate, digits)

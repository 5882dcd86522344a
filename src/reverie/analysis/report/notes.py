"""What a reader must know before the numbers: what is missing, shorter, left out, or not comparable."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from reverie.analysis.comparison import Comparison, Entry, Environment, Matrix
from reverie.analysis.format import frames_text, listed, plural, short_path
from reverie.analysis.published import STICKY_ACTIONS, game_scores, task
from reverie.analysis.runs import Run
from reverie.analysis.statistics import WITHOUT, Statistics

FEW = 5
"""With fewer seeds, intervals are wide and do not cover what they promise."""


class Note(NamedTuple):
    """One thing to know."""

    topic: str
    """One or two words, by which notes are found."""
    text: str
    """One or two sentences."""


def notes(comparison: Comparison, statistics: Sequence[Statistics]) -> list[Note]:
    """Everything to know, what changes numbers first."""
    found = [
        Note("Unreadable", f"{short_path(item.path)} takes no part: {item.reason}") for item in comparison.unreadable
    ]
    found += [
        Note("Twice", f"{_name(run)} ({short_path(run.path)}) takes no part: another run of this seed got farther.")
        for run in comparison.doubles
    ]
    for place in comparison.environments:
        found += _unfinished(place)
    for place in comparison.environments:
        found += _lengths(place, comparison.frames_given)
    found += _missing(comparison)
    for entry in comparison.entries:
        found += _scores(entry)
    for one in statistics:
        found += _aggregates(one.matrix)
    found += _few(comparison)
    if statistics and not all(one.intervals for one in statistics):
        found.append(Note("No intervals", WITHOUT))
    if comparison.shared:
        text = (
            f"All agents have {listed(comparison.shared, len(comparison.shared))}, unless their variant says otherwise."
        )
        found.append(Note("Same for all", text))
    return [*found, *_comparability(comparison)]


def _name(run: Run) -> str:
    return f"{run.label} in {run.environment}, seed {run.seed}"


def _unfinished(place: Environment) -> Iterator[Note]:
    """Runs that did not reach their planned steps."""
    for entry in place.entries:
        for run in entry.runs:
            if run.status == "finished":
                continue
            counted = run in entry.counted
            consequence = "It is counted." if counted else f"It is not counted at {frames_text(place.frames)} frames."
            if counted and run.frames == place.frames:
                consequence = "It is counted, and the comparison ends with it."
            happened = "still runs and has reached" if run.status == "running" else "stopped at"
            name = f"{entry.agent} in {place.name}, seed {run.seed} ({short_path(run.path)})"
            reached = f"{frames_text(run.frames)} of {frames_text(run.frames_planned)} frames"
            yield Note(run.status.capitalize(), f"{name} {happened} {reached}. {consequence}")


def _lengths(place: Environment, given: bool) -> Iterator[Note]:
    runs = [run for entry in place.entries for run in entry.runs]
    longest = max(run.frames for run in runs)
    finished = [
        f"{entry.agent}, seed {run.seed} ({frames_text(run.frames)})"
        for entry in place.entries
        for run in entry.runs
        if run.status == "finished" and run.frames < place.frames
    ]
    if finished:
        shorter = listed(finished)
        yield Note(
            "Not counted",
            f"{place.name}: {shorter} planned fewer than {frames_text(place.frames)} frames and "
            f"{'has' if len(finished) == 1 else 'have'} no part in the scores.",
        )
    if longest > place.frames:
        why = "as asked for" if given else "the most that all counted runs have reached"
        yield Note(
            "Unequal lengths" if len({run.frames for run in runs}) > 1 else "Shorter",
            f"{place.name}: scores are compared at {frames_text(place.frames)} frames, {why}; the longest run has "
            f"{frames_text(longest)}. Curves show everything.",
        )


def _missing(comparison: Comparison) -> Iterator[Note]:
    """Seeds that other runs of the report have, and environments that other agents have."""
    related = _related(comparison)
    for entry in comparison.entries:
        expected = {r.seed for e in comparison.entries if e.agent in related[entry.agent] for r in e.runs}
        absent = sorted(expected - {run.seed for run in entry.runs})
        if absent:
            yield Note(
                "Missing seeds",
                f"{entry.agent} in {entry.environment}: no run of {'seed' if len(absent) == 1 else 'seeds'} "
                f"{listed(absent)}, which others here have.",
            )
    for agent in comparison.agents:
        places = [
            place.name
            for place in comparison.environments
            if any(entry.agent in related[agent] for entry in place.entries)
            and all(entry.agent != agent for entry in place.entries)
        ]
        if places:
            yield Note("Missing runs", f"{agent} has no run in {listed(places)}.")


def _related(comparison: Comparison) -> dict[str, set[str]]:
    """By agent, those that it shares an environment with, and those that these do, and so on; itself included."""
    groups: list[set[str]] = []
    for place in comparison.environments:
        here = {entry.agent for entry in place.entries}
        joined = [group for group in groups if group & here]
        groups = [group for group in groups if group not in joined] + [here.union(*joined)]
    return {agent: group for group in groups for agent in group}


def _scores(entry: Entry) -> Iterator[Note]:
    silent = [run.seed for run in entry.counted if run.seed not in entry.scores]
    if silent:
        yield Note(
            "No score",
            f"{entry.agent} in {entry.environment}: {_seeds(silent)} had neither an evaluation nor the end of an "
            "episode in the frames that are scored.",
        )
    training = [seed for seed, score in entry.scores.items() if score.source == "training episodes"]
    if training:
        yield Note(
            "Training episodes",
            f"{entry.agent} in {entry.environment}: {_seeds(training)} had no evaluation in the frames that are "
            "scored; the score is of training episodes, whose actions are sampled.",
        )


def _aggregates(matrix: Matrix) -> Iterator[Note]:
    if matrix.without:
        yield Note(
            "Not in aggregates",
            f"{listed(matrix.without)}: not every agent has a score there, so aggregates are over the other "
            f"{plural(len(matrix.environments), 'environment')}.",
        )
    for agent, rest in matrix.unused.items():
        seeds = listed([f"{name} seed {seed}" for name, seed in rest])
        yield Note(
            "Not in aggregates",
            f"{agent}: {seeds}. Aggregates need as many seeds in every environment, and some environment has only "
            f"{len(matrix.scores[agent])}. The table of scores has all seeds.",
        )


def _few(comparison: Comparison) -> Iterator[Note]:
    counts: dict[int, list[str]] = {}
    for entry in comparison.entries:
        if entry.n < FEW:
            counts.setdefault(entry.n, []).append(f"{entry.agent} in {entry.environment}")
    for count, names in sorted(counts.items()):
        meaning = {
            0: "there is nothing to compare",
            1: "nothing is known of how seeds differ, and there is no interval",
        }.get(count, "intervals are wide, and cover less than they say")
        yield Note("Few seeds", f"n = {count}: {listed(names)}; {meaning}.")


def _comparability(comparison: Comparison) -> Iterator[Note]:
    unknown = [place.name for place in comparison.environments if not _has_references(place.name)]
    if unknown:
        yield Note(
            "No references",
            f"{listed(unknown)}: no published scores, so these stand in the table of scores only and have no part in "
            "aggregates.",
        )
    sticky = {
        run.environment: run.config.env.sticky_actions
        for run in comparison.runs
        if game_scores(run.environment) and run.config.env.sticky_actions != STICKY_ACTIONS
    }
    if sticky:
        yield Note(
            "Other protocol",
            f"{listed(list(sticky))}: sticky actions p={listed(sorted(set(sticky.values())))} instead of "
            f"{STICKY_ACTIONS:g}; published scores are not comparable with these.",
        )
    commits = commits_of(comparison.runs)
    if len(commits) > 1:
        yield Note("Several commits", f"These runs were made with {listed(commits)}; code may differ between them.")
    precisions = _said_by_starts(comparison.runs, "precision")
    if len(precisions) > 1:
        yield Note(
            "Several precisions",
            f"These runs were computed in {listed(precisions)}; a difference between agents may be one between these.",
        )


def commits_of(runs: Iterable[Run]) -> list[str]:
    """Commits that the starts of these runs name, in order of appearance."""
    return _said_by_starts(runs, "commit")


def _said_by_starts(runs: Iterable[Run], key: str) -> list[str]:
    return list(dict.fromkeys(str(start[key]) for run in runs for start in run.starts if start.get(key)))


def _has_references(environment: str) -> bool:
    return task(environment) is not None


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}"

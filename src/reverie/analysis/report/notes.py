"""Notes to read before the numbers: what is missing, shorter, left out, or not comparable."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from reverie.analysis.comparison import Comparison, Entry, Environment, Matrix
from reverie.analysis.format import frames_text, listed, plural, short_path
from reverie.analysis.published import STICKY_ACTIONS, game_scores, task
from reverie.analysis.runs import Run
from reverie.analysis.statistics import WITHOUT, Statistics

FEW = 5  # number of seeds below which intervals are wide and cover less than they say
FEW_MEANS = {0: "there is nothing to compare", 1: "nothing is known of how seeds differ, and there is no interval"}


class Note(NamedTuple):
    """One thing to know: a topic of one or two words, and one or two sentences."""

    topic: str
    text: str


def notes(comparison: Comparison, statistics: Sequence[Statistics]) -> list[Note]:
    """Return everything to know, what changes numbers first."""
    return [
        *(Note("Unreadable", f"{short_path(one.path)} takes no part: {one.reason}") for one in comparison.unreadable),
        *map(_double, comparison.doubles),
        *(note for place in comparison.environments for note in _unfinished(place)),
        *(note for place in comparison.environments for note in _lengths(place, comparison.has_given_frames)),
        *_missing(comparison),
        *(note for entry in comparison.entries for note in _scores(entry)),
        *(note for one in statistics for note in _aggregates(one.matrix)),
        *_few(comparison),
        *([Note("No intervals", WITHOUT)] if not all(one.has_intervals for one in statistics) else []),
        *_shared(comparison),
        *_comparability(comparison),
    ]


def _double(run: Run) -> Note:
    name = f"{run.label} in {run.environment}, seed {run.seed}"
    text = f"{name} ({short_path(run.path)}) takes no part: another run of this seed got farther."
    return Note("Twice", text)


def _shared(comparison: Comparison) -> Iterator[Note]:
    if comparison.shared:
        settings = listed(comparison.shared, len(comparison.shared))
        yield Note("Same for all", f"All agents have {settings}, unless their variant says otherwise.")


def _unfinished(place: Environment) -> Iterator[Note]:
    """Yield the runs that did not reach their planned steps."""
    for entry in place.entries:
        for run in entry.runs:
            if run.status == "finished":
                continue
            if run not in entry.counted:
                consequence = f"It is not counted at {frames_text(place.frames)} frames."
            elif run.frames == place.frames:
                consequence = "It is counted, and the comparison ends with it."
            else:
                consequence = "It is counted."
            happened = "still runs and has reached" if run.status == "running" else "stopped at"
            name = f"{entry.agent} in {place.name}, seed {run.seed} ({short_path(run.path)})"
            reached = f"{frames_text(run.frames)} of {frames_text(run.frames_planned)} frames"
            yield Note(run.status.capitalize(), f"{name} {happened} {reached}. {consequence}")


def _lengths(place: Environment, is_given: bool) -> Iterator[Note]:
    at = frames_text(place.frames)
    runs = [(entry, run) for entry in place.entries for run in entry.runs]
    longest = max(run.frames for _, run in runs)
    shorter = [
        f"{entry.agent}, seed {run.seed} ({frames_text(run.frames)})"
        for entry, run in runs
        if run.status == "finished" and run.frames < place.frames
    ]
    if shorter:
        have = "has" if len(shorter) == 1 else "have"
        text = f"{listed(shorter)} planned fewer than {at} frames and {have} no part in the scores."
        yield Note("Not counted", f"{place.name}: {text}")
    if longest > place.frames:
        why = "as asked for" if is_given else "the most that all counted runs have reached"
        yield Note(
            "Unequal lengths" if len({run.frames for _, run in runs}) > 1 else "Shorter",
            f"{place.name}: scores are compared at {at} frames, {why}; the longest run has {frames_text(longest)}. "
            "Curves show everything.",
        )


def _missing(comparison: Comparison) -> Iterator[Note]:
    """Yield seeds that other runs of the report have, and environments that other agents have."""
    related = _related(comparison)
    for entry in comparison.entries:
        expected = {r.seed for e in comparison.entries if e.agent in related[entry.agent] for r in e.runs}
        absent = sorted(expected - {run.seed for run in entry.runs})
        if absent:
            text = f"{entry.agent} in {entry.environment}: no run of {_seeds(absent)}, which others here have."
            yield Note("Missing seeds", text)
    for agent in comparison.agents:
        agents = {place.name: {entry.agent for entry in place.entries} for place in comparison.environments}
        places = [name for name, here in agents.items() if related[agent] & here and agent not in here]
        if places:
            yield Note("Missing runs", f"{agent} has no run in {listed(places)}.")


def _related(comparison: Comparison) -> dict[str, set[str]]:
    """Return by agent those that it shares an environment with, and those that these do, and so on; with itself."""
    groups: list[set[str]] = []
    for place in comparison.environments:
        here = {entry.agent for entry in place.entries}
        joined = [group for group in groups if group & here]
        groups = [group for group in groups if group not in joined] + [here.union(*joined)]
    return {agent: group for group in groups for agent in group}


def _scores(entry: Entry) -> Iterator[Note]:
    place = f"{entry.agent} in {entry.environment}"
    silent = [run.seed for run in entry.counted if run.seed not in entry.scores]
    if silent:
        why = "had neither an evaluation nor the end of an episode in the frames that are scored."
        yield Note("No score", f"{place}: {_seeds(silent)} {why}")
    training = [seed for seed, score in entry.scores.items() if score.source == "training episodes"]
    if training:
        why = "had no evaluation in the frames that are scored; the score is of training episodes, whose actions are"
        yield Note("Training episodes", f"{place}: {_seeds(training)} {why} sampled.")


def _aggregates(matrix: Matrix) -> Iterator[Note]:
    if matrix.without:
        others = plural(len(matrix.environments), "environment")
        text = f"not every agent has a score there, so aggregates are over the other {others}."
        yield Note("Not in aggregates", f"{listed(matrix.without)}: {text}")
    for agent, rest in matrix.unused.items():
        seeds = listed([f"{name} seed {seed}" for name, seed in rest])
        yield Note(
            "Not in aggregates",
            f"{agent}: {seeds}. Aggregates need as many seeds in every environment, and some environment has only "
            f"{len(matrix.scores[agent])}. The table of scores has all seeds.",
        )


def _few(comparison: Comparison) -> Iterator[Note]:
    for count in range(FEW):
        names = [f"{entry.agent} in {entry.environment}" for entry in comparison.entries if entry.n == count]
        if names:
            meaning = FEW_MEANS.get(count, "intervals are wide, and cover less than they say")
            yield Note("Few seeds", f"n = {count}: {listed(names)}; {meaning}.")


def _comparability(comparison: Comparison) -> Iterator[Note]:
    unknown = [place.name for place in comparison.environments if task(place.name) is None]
    if unknown:
        yield Note(
            "No references",
            f"{listed(unknown)}: no published scores, so these are in the table of scores only and have no part in "
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
    precisions = _recorded(comparison.runs, "precision")
    if len(precisions) > 1:
        yield Note(
            "Several precisions",
            f"These runs were computed in {listed(precisions)}; a difference between agents may be one between these.",
        )


def commits_of(runs: Iterable[Run]) -> list[str]:
    """Return the commits that the starts of these runs recorded, in order of appearance."""
    return _recorded(runs, "commit")


def _recorded(runs: Iterable[Run], key: str) -> list[str]:
    return list(dict.fromkeys(str(start[key]) for run in runs for start in run.starts if start.get(key)))


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}"

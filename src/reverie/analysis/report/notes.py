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
    places, entries = comparison.environments, comparison.entries
    found = [
        *(Note("Unreadable", f"{short_path(path)} takes no part: {reason}") for path, reason in comparison.unreadable),
        *(
            Note("Twice", f"{_named(run.label, run)} takes no part: another run of this seed got farther.")
            for run in comparison.doubles
        ),
        *(note for place in places for note in _unfinished(place)),
        *(note for place in places for note in _lengths(place, comparison.has_given_frames)),
        *_missing(comparison),
        *(note for entry in entries for note in _scores(entry)),
        *(note for one in statistics for note in _aggregates(one.matrix)),
    ]
    for count in range(FEW):
        if names := [f"{entry.agent} in {entry.environment}" for entry in entries if entry.n == count]:
            meaning = FEW_MEANS.get(count, "intervals are wide, and cover less than they say")
            found.append(Note("Few seeds", f"n = {count}: {listed(names)}; {meaning}."))
    if not all(one.has_intervals for one in statistics):
        found.append(Note("No intervals", WITHOUT))
    if shared := comparison.shared:
        text = f"All agents have {listed(shared, len(shared))}, unless their variant says otherwise."
        found.append(Note("Same for all", text))
    return [*found, *_comparability(comparison)]


def _named(agent: str, run: Run) -> str:
    return f"{agent} in {run.environment}, seed {run.seed} ({short_path(run.path)})"


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}"


def _unfinished(place: Environment) -> Iterator[Note]:
    """Yield the runs that did not reach their planned steps."""
    for entry in place.entries:
        for run in entry.runs:
            if run.status != "finished":
                consequence = "It is counted."
                if run not in entry.counted:
                    consequence = f"It is not counted at {frames_text(place.frames)} frames."
                elif run.frames == place.frames:
                    consequence = "It is counted, and the comparison ends with it."
                happened = "still runs and has reached" if run.status == "running" else "stopped at"
                reached = f"{frames_text(run.frames)} of {frames_text(run.frames_planned)} frames"
                yield Note(run.status.capitalize(), f"{_named(entry.agent, run)} {happened} {reached}. {consequence}")


def _lengths(place: Environment, is_given: bool) -> Iterator[Note]:
    at, lengths = frames_text(place.frames), {run.frames for run in place.runs}
    shorter = [
        f"{entry.agent}, seed {run.seed} ({frames_text(run.frames)})"
        for entry in place.entries
        for run in entry.runs
        if run.status == "finished" and run.frames < place.frames
    ]
    if shorter:
        have = "has" if len(shorter) == 1 else "have"
        text = f"{listed(shorter)} planned fewer than {at} frames and {have} no part in the scores."
        yield Note("Not counted", f"{place.name}: {text}")
    if max(lengths) > place.frames:
        why = "as asked for" if is_given else "the most that all counted runs have reached"
        text = (
            f"{place.name}: scores are compared at {at} frames, {why}; the longest run has {frames_text(max(lengths))}."
        )
        yield Note("Unequal lengths" if len(lengths) > 1 else "Shorter", f"{text} Curves show everything.")


def _missing(comparison: Comparison) -> Iterator[Note]:
    """Yield seeds that other runs of the report have, and environments that other agents have.

    Agents are related that share an environment, or one with a related agent.
    """
    places = {place.name: {entry.agent for entry in place.entries} for place in comparison.environments}
    groups: list[set[str]] = []
    for here in places.values():
        joined = [group for group in groups if group & here]
        groups = [group for group in groups if group not in joined] + [here.union(*joined)]
    related = {agent: group for group in groups for agent in group}
    for entry in comparison.entries:
        expected = {r.seed for e in comparison.entries if e.agent in related[entry.agent] for r in e.runs}
        if absent := sorted(expected - {run.seed for run in entry.runs}):
            text = f"{entry.agent} in {entry.environment}: no run of {_seeds(absent)}, which others here have."
            yield Note("Missing seeds", text)
    for agent in comparison.agents:
        if names := [name for name, here in places.items() if related[agent] & here and agent not in here]:
            yield Note("Missing runs", f"{agent} has no run in {listed(names)}.")


def _scores(entry: Entry) -> Iterator[Note]:
    place = f"{entry.agent} in {entry.environment}"
    if silent := [run.seed for run in entry.counted if run.seed not in entry.scores]:
        why = "had neither an evaluation nor the end of an episode in the frames that are scored."
        yield Note("No score", f"{place}: {_seeds(silent)} {why}")
    if training := [seed for seed, score in entry.scores.items() if score.source == "training episodes"]:
        why = "had no evaluation in the frames that are scored; the score is of training episodes, whose actions are"
        yield Note("Training episodes", f"{place}: {_seeds(training)} {why} sampled.")


def _aggregates(matrix: Matrix) -> Iterator[Note]:
    if matrix.without:
        others = plural(len(matrix.environments), "environment")
        text = f"not every agent has a score there, so aggregates are over the other {others}."
        yield Note("Not in aggregates", f"{listed(matrix.without)}: {text}")
    for agent, rest in matrix.unused.items():
        seeds = listed([f"{name} seed {seed}" for name, seed in rest])
        why = "Aggregates need as many seeds in every environment, and some environment has only"
        text = f"{agent}: {seeds}. {why} {len(matrix.scores[agent])}. The table of scores has all seeds."
        yield Note("Not in aggregates", text)


def _comparability(comparison: Comparison) -> Iterator[Note]:
    if unknown := [place.name for place in comparison.environments if task(place.name) is None]:
        text = "no published scores, so these are in the table of scores only and have no part in aggregates."
        yield Note("No references", f"{listed(unknown)}: {text}")
    atari = {run.environment: run.config.env.sticky_actions for run in comparison.runs if game_scores(run.environment)}
    if sticky := {name: share for name, share in atari.items() if share != STICKY_ACTIONS}:
        shares = f"sticky actions p={listed(sorted(set(sticky.values())))} instead of {STICKY_ACTIONS:g}"
        text = f"{listed(list(sticky))}: {shares}; published scores are not comparable with these."
        yield Note("Other protocol", text)
    if len(commits := recorded(comparison.runs, "commit")) > 1:
        yield Note("Several commits", f"These runs were made with {listed(commits)}; code may differ between them.")
    if len(found := recorded(comparison.runs, "precision")) > 1:
        text = f"These runs were computed in {listed(found)}; a difference between agents may be one between these."
        yield Note("Several precisions", text)


def recorded(runs: Iterable[Run], key: str) -> list[str]:
    """Return what the starts of these runs recorded, such as their commits, in order of appearance."""
    return list(dict.fromkeys(str(start[key]) for run in runs for start in run.starts if start.get(key)))

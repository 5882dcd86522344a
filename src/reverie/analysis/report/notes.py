"""Notes to read before the numbers: what is missing, shorter, left out, or not comparable."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from reverie.analysis.comparison import Comparison, Entry
from reverie.analysis.format import frames_text, listed
from reverie.analysis.published import STICKY_ACTIONS, game_scores
from reverie.analysis.runs import Run
from reverie.analysis.statistics import SuiteScores


class Note(NamedTuple):
    """One thing to know: a topic of one or two words, and one or two sentences."""

    topic: str
    text: str


def notes(comparison: Comparison, suites: Sequence[SuiteScores]) -> Iterator[Note]:
    """Yield everything to know, what changes numbers first."""
    for path, why in comparison.unreadable:
        yield Note("Unreadable", f"{'/'.join(path.parts[-2:])} takes no part: {why}")
    for run in comparison.doubles:
        yield Note("Twice", f"{_named(run.label, run)} takes no part: another run of this seed got farther.")
    for entry in comparison.entries:
        yield from _of_runs(entry)
    for name, entries in comparison.environments.items():
        at, longest = entries[0].frames, max(run.frames for entry in entries for run in entry.runs)
        if longest > at:
            text = (
                f"{name}: scores are compared at {frames_text(at)} frames; the longest run has {frames_text(longest)}."
            )
            yield Note("Shorter", f"{text} Curves show everything.")
    yield from _missing(comparison)
    for suite in suites:
        if suite.without:
            yield Note("Not in aggregates", f"{listed(suite.without)}: not every agent has a score there.")
        for agent, rest in suite.unused.items():
            seeds = listed([f"{name} seed {seed}" for name, seed in rest])
            why = f"Aggregates need as many seeds in every environment, and some has only {len(suite.scores[agent])}."
            yield Note("Not in aggregates", f"{agent}: {seeds}. {why} The table of scores has all seeds.")
    if shared := comparison.shared:
        text = f"All agents have {listed(shared, len(shared))}, unless their variant says otherwise."
        yield Note("Same for all", text)
    atari = {run.environment: run.config.env.sticky_actions for run in comparison.runs if game_scores(run.environment)}
    if sticky := {name: share for name, share in atari.items() if share != STICKY_ACTIONS}:
        shares = f"sticky actions p={listed(sorted(set(sticky.values())))} instead of {STICKY_ACTIONS:g}"
        text = f"{listed(list(sticky))}: {shares}; published scores are not comparable with these."
        yield Note("Other protocol", text)
    for key, may_differ in (("commit", "code"), ("precision", "numbers")):
        if len(found := recorded(comparison.runs, key)) > 1:
            text = f"These runs were made with {listed(found)}; {may_differ} may differ between them."
            yield Note(f"Several {key}s", text)


def recorded(runs: Iterable[Run], key: str) -> list[str]:
    """Return what the starts of these runs recorded, such as their commits, in order of appearance."""
    return list(dict.fromkeys(str(start[key]) for run in runs for start in run.starts if start.get(key)))


def _named(agent: str, run: Run) -> str:
    return f"{agent} in {run.environment}, seed {run.seed} ({'/'.join(run.path.parts[-2:])})"


def _of_runs(entry: Entry) -> Iterator[Note]:
    """Yield runs that did not reach their planned steps, are too short, or have no score of evaluations."""
    verbs = {"running": "still runs and has reached", "stopped": "stopped at", "finished": "finished at"}
    for run in entry.runs:
        named, score = _named(entry.agent, run), entry.scores.get(run.seed)
        is_counted, is_shortest = run in entry.counted, run.frames == entry.frames
        if run.status != "finished" or not is_counted:
            consequence = "It is counted, and the comparison ends with it." if is_shortest else "It is counted."
            if not is_counted:
                consequence = f"It is not counted at {frames_text(entry.frames)} frames."
            reached = f"{frames_text(run.frames)} of {frames_text(run.frames_planned)} frames"
            yield Note(run.status.capitalize(), f"{named} {verbs[run.status]} {reached}. {consequence}")
        if is_counted and score is None:
            yield Note("No score", f"{named} had neither an evaluation nor the end of an episode in the scored frames.")
        if score and score.source == "training episodes":
            what = (
                "had no evaluation in the scored frames; its score is of training episodes, whose actions are sampled"
            )
            yield Note("Training episodes", f"{named} {what}.")


def _missing(comparison: Comparison) -> Iterator[Note]:
    """Yield seeds and environments that an agent lacks, and others have which share an environment with it."""
    places = {name: {entry.agent for entry in entries} for name, entries in comparison.environments.items()}
    for agent in comparison.agents:
        related = set().union(*(here for here in places.values() if agent in here))
        seeds = {run.seed for entry in comparison.entries if entry.agent in related for run in entry.runs}
        for name in (name for name, here in places.items() if related & here):
            own = {run.seed for entry in comparison.environments[name] if entry.agent == agent for run in entry.runs}
            if absent := sorted(seeds - own):
                what = (
                    f"seed{'s' if len(absent) > 1 else ''} {listed(absent)}, which others have" if own else "any seed"
                )
                yield Note("Missing runs", f"{agent} in {name}: there is no run of {what}.")

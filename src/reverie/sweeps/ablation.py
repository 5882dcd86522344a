"""The article's ablations as a sweep, and its results as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reverie.analysis.ablations import Row, Scores, tabulate
from reverie.analysis.runs import FINAL_SHARE, read_run
from reverie.config import ABLATIONS, VARIANTS
from reverie.errors import ConfigError, ReverieError, RunError
from reverie.sweeps.plan import Plan, Task
from reverie.sweeps.planned_runs import PlannedRun
from reverie.sweeps.status import RunStatus, State

FULL = "full"
AGENT: Mapping[str, Any] = VARIANTS["mixed-gradients"].settings
"""The article's full agent has both actor gradients; without them, Reinforce only would be no ablation."""


def ablation_plan(envs: Sequence[str], preset: str | None, seeds: int, settings: Mapping[str, Any]) -> Plan:
    """Return the plan of the ablations on some environments, with the article's full agent."""
    tasks = tuple(Task(env, preset) for env in envs)
    return ablated(Plan("ablation", tasks, settings=AGENT, source="reverie ablate"), seeds, settings)


def ablated(plan: Plan, seeds: int | None, settings: Mapping[str, Any]) -> Plan:
    """Return a plan of ablations: the plan's own agents, and all ablations if it has the full agent alone.

    Args:
        plan: environments, agents, budgets, and settings.
        seeds: how many; None keeps the plan's.
        settings: on top of the plan's.

    Raises:
        ConfigError: if the plan lacks the full agent.
    """
    if FULL not in plan.variants:
        raise ConfigError(
            f"In {plan.source}, variants: '{FULL}' is missing, with which ablations are compared; add it."
        )
    return replace(
        plan,
        variants=plan.variants if len(plan.variants) > 1 else (FULL, *ABLATIONS),
        seeds=plan.seeds if seeds is None else tuple(range(seeds)),
        settings={**plan.settings, **settings},
    )


def compare(runs: Sequence[PlannedRun], folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """Return the table of the runs in the folder of a sweep.

    Returns:
        A row for each variant but the full agent, and facts for the notes.

    Raises:
        RunError: if the sweep has no full agent, or nothing to compare it with.
    """
    variants = dict.fromkeys(run.variant for run in runs)
    if FULL not in variants or len(variants) < 2:
        raise RunError(f"The sweep in {folder} cannot be compared: it needs the variant '{FULL}' and another one.")
    values: dict[str, dict[str, list[float]]] = {}
    missing: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        score = _score(run, folder)
        for found in (values, missing):
            found.setdefault(run.variant, {}).setdefault(run.env, [])
        if isinstance(score, str):
            missing[run.variant][run.env].append(score)
        else:
            values[run.variant][run.env].append(score)
    scores = {
        variant: {env: Scores(tuple(each), "; ".join(missing[variant][env])) for env, each in by_env.items()}
        for variant, by_env in values.items()
    }
    tasks = dict.fromkeys(f"{run.env} ({run.preset}, {run.frames:,} frames)" for run in runs)
    facts = {
        "seeds": len({run.seed for run in runs}),
        "tasks": ", ".join(tasks),
        "score": f"A run's final score is the mean of its evaluations in the last {FINAL_SHARE:.0%} of its frames.",
        "budgets": {run.env: {"preset": run.preset, "frames": run.frames} for run in runs},
    }
    return tabulate(scores.pop(FULL), scores), facts


def _score(run: PlannedRun, folder: Path) -> float | str:
    """Return a run's final score, or why there is none, in words."""
    if run.duplicate_of:
        return f"it is the same agent as {run.duplicate_of}"
    status = RunStatus(run, folder, float)
    try:
        status.read()
        if status.state is State.DONE:
            score = read_run(status.folder.path).final_score
            return f"{run.name} has no episode in its last frames" if score is None else score.value
    except ReverieError as error:
        return f"{run.name}: {error}"
    if status.state is State.CHANGED:
        return f"{run.name} was run with other settings"
    if status.progress.step:
        return f"{run.name} is at step {status.progress.step:,} of {run.config.training.steps:,}"
    return f"{run.name} was not run"

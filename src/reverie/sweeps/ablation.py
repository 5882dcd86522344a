"""The article's ablations as a sweep, and its results as a table."""

from collections.abc import Sequence
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


def ablation_plan(envs: Sequence[str], preset: str | None) -> Plan:
    """Return the plan of all ablations on some environments.

    The article's full agent has both actor gradients; without them, Reinforce only would be no ablation.
    """
    settings = dict(VARIANTS["mixed-gradients"].settings)
    tasks = tuple(Task(env, preset) for env in envs)
    return Plan("ablation", tasks, seeds=(0, 1, 2), settings=settings, source="reverie ablate")


def ablated(plan: Plan, seeds: int | None, settings: dict[str, Any]) -> Plan:
    """Return a plan with so many seeds, if given, more settings, and all ablations if it has the full agent alone.

    Raises:
        ConfigError: if it lacks the full agent, or varies settings.
    """
    if plan.vary:
        raise ConfigError(f"In {plan.source}: vary: ablations of one agent are compared. Leave it out, or use a sweep.")
    if FULL not in plan.variants:
        raise ConfigError(f"In {plan.source}: variants: '{FULL}' is missing, with which others are compared. Add it.")
    return replace(
        plan,
        variants=plan.variants if len(plan.variants) > 1 else (FULL, *ABLATIONS),
        seeds=plan.seeds if seeds is None else tuple(range(seeds)),
        settings=plan.settings | settings,
    )


def compare(runs: Sequence[PlannedRun], folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """Compare the runs in the folder of a sweep.

    Returns:
        A row for each variant but the full agent, and facts for the notes.

    Raises:
        RunError: if the sweep has no full agent, or nothing to compare it with.
    """
    agents: dict[str, dict[str, Scores]] = {}
    for variant, env in dict.fromkeys((run.variant, run.env) for run in runs):
        found = [_score(run, folder) for run in runs if (run.variant, run.env) == (variant, env)]
        values = tuple(score for score in found if not isinstance(score, str))
        missing = "; ".join(reason for reason in found if isinstance(reason, str))
        agents.setdefault(variant, {})[env] = Scores(values, missing)
    if FULL not in agents or len(agents) < 2:
        raise RunError(f"The sweep in {folder} cannot be compared: it needs the variant '{FULL}' and another one.")
    facts = {
        "seeds": len({run.seed for run in runs}),
        "tasks": ", ".join(dict.fromkeys(f"{run.env} ({run.preset}, {run.frames:,} frames)" for run in runs)),
        "score": f"A run's final score is the mean of its evaluations in the last {FINAL_SHARE:.0%} of its frames.",
        "budgets": {run.env: {"preset": run.preset, "frames": run.frames} for run in runs},
    }
    return tabulate(agents.pop(FULL), agents), facts


def _score(run: PlannedRun, folder: Path) -> float | str:
    """Return a run's final score, or why there is none, in words."""
    if run.duplicate_of:
        return f"it is the same agent as {run.duplicate_of}"
    status = RunStatus(run, folder)
    try:
        status.read()
        if status.state is State.DONE:
            score = read_run(status.folder.path).final_score
            return f"{run.name} has no episode in its last frames" if score is None else score.value
    except ReverieError as error:
        return f"{run.name}: {error}"
    if status.step:
        return f"{run.name} is at step {status.step:,} of {run.config.training.steps:,}"
    return f"{run.name} was not run"

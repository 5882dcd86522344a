"""The article's ablations as a sweep, and its results as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reverie.analysis.ablations import Row, Scores, tabulate
from reverie.analysis.runs import FINAL_SHARE, Run, read_run
from reverie.config import ABLATIONS, VARIANTS
from reverie.errors import ConfigError, ReverieError, RunError
from reverie.experiments.cells import Cell
from reverie.experiments.plan import Plan, Task
from reverie.experiments.run_status import Stage, read_status

FULL = "full"
AGENT: Mapping[str, Any] = VARIANTS["mixed-gradients"].settings
"""The article's full agent has both actor gradients; without them, Reinforce only would be no ablation."""


def plan_of(
    envs: Sequence[str], preset: str | None, seeds: int, settings: Mapping[str, Any], workers: int = 1, threads: int = 0
) -> Plan:
    """The plan of the ablations on some environments, with the article's full agent."""
    tasks = tuple(Task(env, preset) for env in envs)
    bare = Plan("ablation", tasks, (FULL,), tuple(range(seeds)), AGENT, workers, threads, source="reverie ablate")
    return ablated(bare, seeds, settings)


def ablated(plan: Plan, seeds: int | None, settings: Mapping[str, Any]) -> Plan:
    """A plan of ablations: the plan's own agents, and all ablations if it has the full agent alone.

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


def compare(cells: Sequence[Cell], folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """The table of the runs in the folder of a sweep.

    Returns:
        A row for each variant but the full agent, and facts for the notes.

    Raises:
        RunError: if the sweep has no full agent, or nothing beside it.
    """
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    if FULL not in variants or len(variants) < 2:
        raise RunError(f"The sweep in {folder} cannot be compared: it needs the variant '{FULL}' and another one.")
    runs = {cell.name: _read(cell, folder) for cell in cells if not cell.twin}
    by_agent = {variant: _scores([c for c in cells if c.variant == variant], runs) for variant in variants}
    facts = {
        "seeds": len({cell.seed for cell in cells}),
        "tasks": _tasks(cells),
        "score": f"A run's final score is the mean of its evaluations in the last {FINAL_SHARE:.0%} of its frames.",
        "budgets": {cell.env: {"preset": cell.preset, "frames": cell.frames} for cell in cells},
    }
    full = by_agent.pop(FULL)
    return tabulate(full, by_agent), facts


def _tasks(cells: Sequence[Cell]) -> str:
    budgets = dict.fromkeys(f"{cell.env} ({cell.preset}, {cell.frames:,} frames)" for cell in cells)
    return ", ".join(budgets)


def _read(cell: Cell, folder: Path) -> Run | str:
    """A cell's run, or why there is none, in words."""
    try:
        status = read_status(cell, folder)
        match status.stage:
            case Stage.DONE:
                run = read_run(folder / cell.place)
                return run if run.final_score is not None else f"{cell.name} has no episode in its last frames"
            case Stage.OTHER:
                return f"{cell.name} was run with other settings"
            case Stage.PARTIAL:
                return f"{cell.name} is at step {status.progress.step:,} of {cell.config.training.steps:,}"
    except ReverieError as error:
        return f"{cell.name}: {error}"
    return f"{cell.name} was not run"


def _scores(cells: Sequence[Cell], runs: Mapping[str, Run | str]) -> dict[str, Scores]:
    """Of one agent, by task."""
    found: dict[str, Scores] = {}
    for env in dict.fromkeys(cell.env for cell in cells):
        values: list[float] = []
        missing: list[str] = []
        for cell in (cell for cell in cells if cell.env == env):
            run = f"it is the same agent as {cell.twin}" if cell.twin else runs[cell.name]
            if isinstance(run, str):
                missing.append(run)
            elif run.final_score is not None:
                values.append(run.final_score.value)
        found[env] = Scores(tuple(values), "; ".join(missing))
    return found

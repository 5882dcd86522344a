"""The cells of a plan: one run each, with its configuration, its command and its folder."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from reverie.config import (
    Config,
    EnvConfig,
    as_text,
    combined,
    default_preset,
    diff,
    effective,
    idle,
    left_out,
    option,
    preset,
    with_variant,
)
from reverie.envs import env_factory, env_spec
from reverie.errors import ConfigError, ReverieError
from reverie.experiments.plan import Plan, Task
from reverie.provenance import usable_cores
from reverie.specs import EnvSpec

FREE = ("training.threads", "training.device", "training.keep_checkpoints", "training.checkpoint_every", "env.parallel")
"""Settings of how a run is carried out, and not of what it computes: they may differ from one start to the next."""

SpecOf = Callable[[EnvConfig], EnvSpec]


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    env: str
    variant: str
    seed: int
    preset: str
    config: Config
    options: tuple[str, ...]
    """Of `reverie train`: every setting that is not the preset's or the variant's."""
    id: str
    """Of its content: environment, resolved settings and seed. Equal ids are the same run."""
    twin: str = ""
    """Name of an earlier cell with the same id, which is run in its place."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.env} {self.variant} seed {self.seed}"

    @property
    def place(self) -> PurePath:
        """Its run folder, in the folder of the sweep."""
        return PurePath(folder_name(self.env), self.variant, f"seed-{self.seed}")

    @property
    def frames(self) -> int:
        """Environment frames of the whole run."""
        return self.config.training.steps * self.config.env.action_repeat

    def arguments(self, folder: Path) -> list[str]:
        """What follows `reverie` in the command that runs this cell, or goes on with it."""
        names = ["--preset", self.preset, "--variant", self.variant]
        return [
            "train",
            self.env,
            *names,
            "--logdir",
            str(folder / self.place),
            *self.options,
            "--resume",
            "--in-sweep",
        ]


def folder_name(env: str) -> str:
    """Name of an environment as that of a folder."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in env)


def spec_by_name(config: EnvConfig) -> EnvSpec:
    """Return what an environment offers that is named by a Gymnasium id or as `module:Class`."""
    return env_spec(config, env_factory(config.name))


def cells(plan: Plan, spec_of: SpecOf = spec_by_name) -> list[Cell]:
    """All cells in the order in which they run: seed by seed, so that early results cover the whole grid.

    Every configuration is built, and every environment constructed once.

    Args:
        plan: the grid.
        spec_of: what an environment offers.

    Raises:
        ConfigError: for the first setting, preset or environment that is wrong, and for a variant without effect whose
            agent the plan does not have otherwise; file and key are named.
    """
    folders = [folder_name(task.env) for task in plan.tasks]
    if len(set(folders)) < len(folders):
        raise ConfigError(f"In {plan.source}, environments: two names differ in special characters only.")
    grids = [_of_task(plan, task, f"environments[{index}]", spec_of) for index, task in enumerate(plan.tasks, 1)]
    ordered = [cell for seed in range(len(plan.seeds)) for grid in grids for cell in grid[seed]]
    return _with_twins(ordered)


def _of_task(plan: Plan, task: Task, key: str, spec_of: SpecOf) -> list[list[Cell]]:
    """Cells of an environment by seed, then by variant."""
    where = f"In {plan.source}, {key} ({task.env})"
    try:
        name = task.preset or _preset_for(task.env, spec_of)
        base = preset(name)
    except ReverieError as error:
        raise ConfigError(f"{where}: {error}") from None
    settings = {**plan.settings, **task.settings, "env.name": task.env}
    if plan.threads or "OMP_NUM_THREADS" not in os.environ:
        settings["training.threads"] = plan.threads or max(1, usable_cores() // plan.workers)
    built: dict[str, tuple[Config, dict[str, Any]]] = {}
    for variant in plan.variants:
        try:
            built[variant] = _build(base, variant, settings)
        except ConfigError as error:
            raise ConfigError(f"{where}, variant {variant}: {error}") from None
    try:
        spec = spec_of(next(iter(built.values()))[0].env)
    except ReverieError as error:
        raise ConfigError(f"{where}: {error}") from None
    ids = {variant: identity(config, spec) for variant, (config, _) in built.items()}
    for variant, (config, _) in built.items():
        if list(ids.values()).count(ids[variant]) == 1 and (problem := _idle(base, variant, config, settings, spec)):
            raise ConfigError(f"{where}: {problem}")
    grid = []
    for seed in plan.seeds:
        row = []
        for variant, (unseeded, changes) in built.items():
            config = unseeded.override(**{"training.seed": seed})
            given = {**{path: value for path, value in changes.items() if path != "env.name"}, "training.seed": seed}
            options = tuple(f"{option(path)}={as_text(value)}" for path, value in given.items())
            row.append(Cell(task.env, variant, seed, name.replace("_", "-"), config, options, identity(config, spec)))
        grid.append(row)
    return grid


def _preset_for(env: str, spec_of: SpecOf) -> str:
    by_name = default_preset(env)
    return by_name if by_name != "vector" else default_preset(env, spec_of(EnvConfig(name=env)))


def _build(base: Config, variant: str, settings: dict[str, Any]) -> tuple[Config, dict[str, Any]]:
    """A configuration as `reverie train` builds it, and the settings that it is told.

    A variant is a change of the plan's agent: a setting that it determines keeps the variant's value.
    """
    fixed = combined(variant)
    told = {path: as_text(value) for path, value in settings.items() if path not in fixed}
    return with_variant(base, variant).override(**told), told


def identity(config: Config, spec: EnvSpec) -> str:
    """Name for what a run computes; runs of the same id are the same.

    Args:
        config: of the run, with environment and seed.
        spec: of its environment, which decides what `auto` means and which settings have an effect.
    """
    values = {path: value for path, value in effective(config, spec).items() if path not in FREE}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _idle(base: Config, names: str, config: Config, settings: dict[str, Any], spec: EnvSpec) -> str:
    """Why one of several variants has no effect on the agent of a plan; empty if all have one."""
    for name, others in left_out(names):
        try:
            without = _build(base, others, settings)[0]
        except ConfigError:  # the settings need this variant
            continue
        if problem := idle(name, config, without, spec):
            return problem
    return ""


def not_run(cells: Sequence[Cell]) -> str:
    """Sentence that names the agents that are run under another name; empty if there are none."""
    names = dict.fromkeys(f"{cell.env} {cell.variant}" for cell in cells if cell.twin)
    return f"Not run, since it would be the same agent as another cell: {', '.join(names)}." if names else ""


def _with_twins(ordered: Sequence[Cell]) -> list[Cell]:
    first: dict[str, str] = {}
    found = []
    for cell in ordered:
        twin = first.setdefault(cell.id, cell.name)
        found.append(cell if twin == cell.name else replace(cell, twin=twin))
    return found


def changes(saved: Config, planned: Config) -> list[str]:
    """What makes a run in its folder another one than planned, in words; empty if it may go on.

    A run may have been started with fewer steps: it is the same run, only shorter. A plan whose precision is `auto`
    agrees with either of the two that this stands for.
    """
    found = []
    for path, before, now in diff(planned, saved):
        shorter = path == "training.steps" and before < now
        if path in FREE or shorter or (path == "training.precision" and now == "auto"):
            continue
        found.append(f"{path} was {as_text(before)} and is now {as_text(now)}")
    return found

"""The runs of a plan: each with its configuration, its command and its folder."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
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
from reverie.envs import as_factory, env_spec
from reverie.errors import ConfigError, ReverieError
from reverie.provenance import usable_cores
from reverie.specs import EnvSpec
from reverie.sweeps.plan import Plan, Task

EXECUTION = (
    "training.threads",
    "training.device",
    "training.keep_checkpoints",
    "training.checkpoint_every",
    "env.parallel",
)
"""Settings of how a run is carried out, and not of what it computes: they may differ from one start to the next."""

SpecOf = Callable[[EnvConfig], EnvSpec]


@dataclass(frozen=True)
class PlannedRun:
    """One run of the grid."""

    env: str
    variant: str
    seed: int
    preset: str
    config: Config
    options: tuple[str, ...]
    """Options of `reverie train`: every setting that is not the preset's or the variant's."""
    id: str
    """Hash of what it computes: environment, resolved settings and seed. Equal ids are the same run."""
    duplicate_of: str = ""
    """Name of an earlier run with the same id, which is run in its place."""

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.env} {self.variant} seed {self.seed}"

    @property
    def path(self) -> PurePath:
        """Its run folder, in the folder of the sweep."""
        return PurePath(folder_name(self.env), self.variant, f"seed-{self.seed}")

    @property
    def frames(self) -> int:
        """Environment frames of the whole run."""
        return self.config.training.steps * self.config.env.action_repeat

    def arguments(self, folder: Path) -> list[str]:
        """Return what follows `reverie` in the command that starts or continues this run."""
        names = ["--preset", self.preset, "--variant", self.variant, "--logdir", str(folder / self.path)]
        return ["train", self.env, *names, *self.options, "--resume", "--in-sweep"]


def spec_by_name(config: EnvConfig) -> EnvSpec:
    """Return the spec of an environment that is named by a Gymnasium id or as `module:Class`."""
    return env_spec(config, as_factory(config.name)[1])


def planned_runs(plan: Plan, spec_of: SpecOf = spec_by_name) -> list[PlannedRun]:
    """Return all runs in the order in which they start: seed by seed, so that early results cover the whole grid.

    Every configuration is built, and every environment constructed once.

    Args:
        plan: the grid.
        spec_of: function that returns an environment's spaces.

    Raises:
        ConfigError: for the first setting, preset or environment that is wrong, and for a variant without effect whose
            agent the plan does not have otherwise; file and key are named.
    """
    if len({folder_name(task.env) for task in plan.tasks}) < len(plan.tasks):
        raise ConfigError(f"In {plan.source}, environments: two names differ in special characters only.")
    by_task = []
    for index, task in enumerate(plan.tasks, 1):
        try:
            by_task.append(_runs_of_task(plan, task, spec_of))
        except ReverieError as error:
            raise ConfigError(f"In {plan.source}, environments[{index}] ({task.env}): {error}") from None
    first: dict[str, str] = {}
    ordered = []
    for run in (run for seed in plan.seeds for runs in by_task for run in runs if run.seed == seed):
        name = first.setdefault(run.id, run.name)
        ordered.append(run if name == run.name else replace(run, duplicate_of=name))
    return ordered


def _runs_of_task(plan: Plan, task: Task, spec_of: SpecOf) -> list[PlannedRun]:
    preset_name = task.preset or default_preset(task.env)
    if task.preset is None and preset_name == "vector":
        preset_name = default_preset(task.env, spec_of(EnvConfig(name=task.env)))
    base = preset(preset_name)
    settings = {**plan.settings, **task.settings, "env.name": task.env}
    if plan.threads or "OMP_NUM_THREADS" not in os.environ:
        settings["training.threads"] = plan.threads or max(1, usable_cores() // plan.workers)
    built = {}
    for variant in plan.variants:
        try:
            built[variant] = _build(base, variant, settings)
        except ConfigError as error:
            raise ConfigError(f"variant {variant}: {error}") from None
    spec = spec_of(next(iter(built.values()))[0].env)
    ids = [identity(config, spec) for config, _ in built.values()]
    for (variant, (config, _)), id_ in zip(built.items(), ids, strict=True):
        if ids.count(id_) == 1 and (problem := _idle(base, variant, config, settings, spec)):
            raise ConfigError(problem)
    runs = []
    for variant, (unseeded, given) in built.items():
        for seed in plan.seeds:
            config = unseeded.override(**{"training.seed": seed})
            changed = {path: value for path, value in given.items() if path != "env.name"} | {"training.seed": seed}
            options = tuple(f"{option(path)}={as_text(value)}" for path, value in changed.items())
            name = preset_name.replace("_", "-")
            runs.append(PlannedRun(task.env, variant, seed, name, config, options, identity(config, spec)))
    return runs


def _build(base: Config, variant: str, settings: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """Return a configuration as `reverie train` builds it, and the settings on top of preset and variant.

    A variant is a change of the plan's agent: a setting that it determines keeps the variant's value.
    """
    given = {path: as_text(value) for path, value in settings.items() if path not in combined(variant)}
    return with_variant(base, variant).override(**given), given


def _idle(base: Config, names: str, config: Config, settings: Mapping[str, Any], spec: EnvSpec) -> str:
    """Return why one of several variants has no effect on the agent of a plan; empty if all have one."""
    for name, others in left_out(names):
        try:
            without = _build(base, others, settings)[0]
        except ConfigError:  # The settings need this variant.
            continue
        if problem := idle(name, config, without, spec):
            return problem
    return ""


def identity(config: Config, spec: EnvSpec) -> str:
    """Return a hash of what a run computes; the environment's spaces decide which settings have an effect."""
    values = {path: value for path, value in effective(config, spec).items() if path not in EXECUTION}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def folder_name(env: str) -> str:
    """Return the name of an environment as that of a folder."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in env)


def duplicates(runs: Sequence[PlannedRun]) -> str:
    """Return a sentence that names the agents that are run under another name; empty if there are none."""
    names = dict.fromkeys(f"{run.env} {run.variant}" for run in runs if run.duplicate_of)
    return f"Not run, since it would be the same agent as another run: {', '.join(names)}." if names else ""


def setting_changes(saved: Config, planned: Config) -> list[str]:
    """Return what makes a run in its folder another one than planned, in words; empty if it may be continued.

    A run may have been started with fewer steps: it is the same run, only shorter. A plan whose precision is `auto`
    agrees with either of the two that this may mean.
    """
    return [
        f"{path} was {as_text(before)} and is now {as_text(now)}"
        for path, before, now in diff(planned, saved)
        if path not in EXECUTION
        and not (path == "training.steps" and before < now)
        and not (path == "training.precision" and now == "auto")
    ]

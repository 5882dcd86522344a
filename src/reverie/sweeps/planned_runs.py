"""The runs of a plan: each with its configuration, its command and its folder."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from reverie import config as configs
from reverie.config import Config, EnvConfig, as_text, combined, default_preset, option, preset, with_variant
from reverie.envs import as_factory, env_spec
from reverie.errors import ConfigError, ReverieError, RunError
from reverie.provenance import usable_cores
from reverie.specs import EnvSpec
from reverie.sweeps.plan import Plan, Task

EXECUTION = {"env.parallel"} | {f"training.{x}" for x in ("threads", "device", "keep_checkpoints", "checkpoint_every")}
"""Settings of how a run is carried out, and not of what it computes: they may differ from one start to the next."""
OWNED = {"env.name": "environments", "training.seed": "seeds", "training.threads": "threads"}
"""Settings that other keys of the plan determine."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of the grid."""

    env: str
    variant: str
    seed: int
    preset: str
    config: Config
    id: str
    """Hash of what it computes: environment, resolved settings and seed. Equal ids are the same run."""
    varied: str = ""
    """The plan's varied settings, as in `lr=0.0003`."""
    duplicate_of: str = ""
    """Name of an earlier run with the same id, which is run in its place."""

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.env} {self.agent} seed {self.seed}"

    @property
    def agent(self) -> str:
        """Variant and varied settings."""
        return f"{self.variant} {self.varied}".strip()

    @property
    def path(self) -> PurePath:
        """Its run folder, in the folder of the sweep."""
        agent = "-".join(filter(None, (self.variant, self.varied)))
        return PurePath(folder_name(self.env), folder_name(agent, "=,+"), f"seed-{self.seed}")

    @property
    def frames(self) -> int:
        """Environment frames of the whole run."""
        return self.config.training.steps * self.config.env.action_repeat

    def arguments(self, folder: Path) -> list[str]:
        """Return what follows `reverie` in the command that starts or continues this run."""
        base = with_variant(preset(self.preset), self.variant)
        changes = [(path, now) for path, _, now in configs.diff(self.config, base) if path != "env.name"]
        settings = [f"{option(path)}={as_text(value)}" for path, value in changes]
        names = ["--preset", self.preset, "--variant", self.variant, "--logdir", str(folder / self.path)]
        return ["train", self.env, *names, *settings, "--resume", "--in-sweep"]

    def check_settings(self, saved: Config) -> None:
        """Raise RunError if the run in its folder, with this configuration, is another one than planned.

        It may have been started with fewer steps: it is the same run, only shorter. A plan whose precision is `auto`
        agrees with either of the two that this may mean.
        """
        for path, before, now in configs.diff(self.config, saved):
            is_longer = path == "training.steps" and before < now
            if path not in EXECUTION and not is_longer and (path, now) != ("training.precision", "auto"):
                raise RunError(
                    f"{self.path} was run with other settings: {path} was {as_text(before)} and is now {as_text(now)}. "
                    "Undo that, choose another --out, or remove that folder."
                )


def spec_by_name(config: EnvConfig) -> EnvSpec:
    """Return the spec of an environment that is named by a Gymnasium id or as `module:Class`."""
    return env_spec(config, as_factory(config.name)[1])


def planned_runs(plan: Plan, spec_of: Callable[[EnvConfig], EnvSpec] = spec_by_name) -> list[PlannedRun]:
    """Return all runs in the order in which they start: seed by seed, so that early results cover the whole grid.

    Every configuration is built, and every environment constructed once.

    Raises:
        ConfigError: for the first setting, preset or environment that is wrong, and for a variant without effect whose
            agent the plan does not have otherwise; file and key are named.
    """
    if len({folder_name(task.env) for task in plan.tasks}) < len(plan.tasks):
        raise ConfigError(f"In {plan.source}, environments: two names differ in special characters only.")
    found: list[PlannedRun] = []
    for number, task in enumerate(plan.tasks, 1):
        try:
            found += _runs_of_task(plan, task, spec_of)
        except ReverieError as error:
            raise ConfigError(f"In {plan.source}: environments[{number}] ({task.env}): {error}") from None
    first: dict[str, str] = {}
    ordered = sorted(found, key=lambda run: plan.seeds.index(run.seed))
    named = [(run, first.setdefault(run.id, run.name)) for run in ordered]
    return [run if name == run.name else replace(run, duplicate_of=name) for run, name in named]


def _runs_of_task(plan: Plan, task: Task, spec_of: Callable[[EnvConfig], EnvSpec]) -> Iterator[PlannedRun]:
    settings = plan.settings | task.settings
    if task.preset is None:
        found = default_preset(task.env, spec_of, settings)
        name, base = found.name, found.config
    else:
        name, base = task.preset.replace("_", "-"), preset(task.preset)
    if owned := OWNED.keys() & (settings.keys() | plan.vary.keys()):
        raise ConfigError(f"{min(owned)} cannot be among the settings, since the plan's {OWNED[min(owned)]} say it.")
    if twice := task.settings.keys() & plan.vary.keys():
        raise ConfigError(f"{min(twice)} is among the environment's settings, but the plan varies it. Give it once.")
    settings["env.name"] = task.env
    if plan.threads or "OMP_NUM_THREADS" not in os.environ:
        settings["training.threads"] = plan.threads or max(1, usable_cores() // plan.workers)
    for varied, values in plan.combinations().items():
        yield from _runs_of_settings(plan, task.env, name, base, settings | values, varied, spec_of)


def _runs_of_settings(
    plan: Plan,
    env: str,
    preset_name: str,
    base: Config,
    settings: Mapping[str, Any],
    varied: str,
    spec_of: Callable[[EnvConfig], EnvSpec],
) -> Iterator[PlannedRun]:
    def build(variant: str) -> Config:
        """Return the plan's agent with a variant, whose settings replace the plan's."""
        try:
            return base.override(**{**settings, **combined(variant)})
        except ConfigError as error:
            raise ConfigError(f"variant {variant}: {error}") from None

    built = {variant: build(variant) for variant in plan.variants}
    spec = spec_of(built[plan.variants[0]].env)
    ids = [identity(config, spec) for config in built.values()]
    for variant, config in built.items():
        is_single = ids.count(identity(config, spec)) == 1
        if is_single and (problem := configs.idle(variant, config, build, spec)):
            raise ConfigError(problem)
        for seed in plan.seeds:
            seeded = config.override(**{"training.seed": seed})
            yield PlannedRun(env, variant, seed, preset_name, seeded, identity(seeded, spec), varied)


def identity(config: Config, spec: EnvSpec) -> str:
    """Return a hash of what a run computes; the environment's spaces decide which settings have an effect."""
    values = {path: value for path, value in configs.effective(config, spec).items() if path not in EXECUTION}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def folder_name(name: str, more: str = "") -> str:
    """Return a name as that of a folder: letters, digits, `._-` and `more` stay."""
    return "".join(letter if letter.isalnum() or letter in f"._-{more}" else "-" for letter in name)

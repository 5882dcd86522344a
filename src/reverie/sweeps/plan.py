"""The plan of a sweep, environments x variants x seeds: every mistake in it is named, with file and key."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reverie.config import PATHS, combined, convert, did_you_mean, resolve
from reverie.errors import ConfigError

SUITES = {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}
"""Plans that come with the package."""
PLAN_FILE = "sweep.json"
"""The copy of its plan that a sweep's folder holds."""
OWNED = {"env.name": "environments", "training.seed": "seeds", "training.threads": "threads"}
"""Settings that other keys of the plan determine."""


@dataclass(frozen=True)
class Task:
    """An environment of the grid, and what is particular to it."""

    env: str
    preset: str | None = None
    """None: chosen by the environment, as `reverie train` does."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By path; they replace the plan's."""


@dataclass(frozen=True)
class Plan:
    """A grid, and how it is run."""

    name: str
    tasks: tuple[Task, ...]
    variants: tuple[str, ...] = ("full",)
    seeds: tuple[int, ...] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By path, on top of every preset and below the variants."""
    workers: int = 1
    """Runs at a time."""
    threads: int = 0
    """CPU threads of each; 0 divides the usable cores by the workers."""
    keep_replay: bool = True
    """Keep the replay of a run that is done; it is most of what a run takes of the disk."""
    source: str = "the plan"
    """File and key, for messages."""

    def to_json(self) -> dict[str, Any]:
        """Return what `parse_plan` turns into the same plan."""
        tasks = [
            {"name": task.env, "settings": task.settings} | ({"preset": task.preset} if task.preset else {})
            for task in self.tasks
        ]
        values = asdict(self)
        del values["tasks"], values["source"]
        return {**values, "environments": tasks}


def find_plan(given: str) -> Path:
    """Return the plan that a word on the command line means: a file, the folder of a sweep, or a suite."""
    path = Path(given)
    if path.is_dir():
        if (path / PLAN_FILE).is_file():
            return path / PLAN_FILE
        raise ConfigError(f"{given} is not the folder of a sweep: there is no {PLAN_FILE} in it; name a plan (TOML).")
    if path.is_file() or given in SUITES:
        return SUITES.get(given, path)
    ending = did_you_mean(given, SUITES, "give a plan (TOML), a sweep's folder, or one of")
    raise ConfigError(f"There is no plan '{given}'{ending}")


def read_plan(path: Path) -> Plan:
    """Read a plan from TOML, or from the `sweep.json` of a sweep's folder; raise ConfigError for a mistake in it."""
    kind = "JSON" if path.name == PLAN_FILE else "TOML"
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text) if kind == "TOML" else json.loads(text)["plan"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"The plan {path} cannot be read or is not valid {kind}: {error}.") from None
    return parse_plan(data, str(path), path.stem)


def parse_plan(data: Any, source: str, default_name: str) -> Plan:
    """Return the plan of a TOML table; raise ConfigError for the first mistake."""
    types: dict[str, Any] = {"name": str, "preset": str, "variants": tuple[str, ...], "seeds": tuple[int, ...]}
    types |= {"workers": int, "threads": int, "keep_replay": bool}
    table = _table(data, f"In {source}: it", (*types, "environments", "settings"))
    values = {key: convert(table[key], hint, f"In {source}: {key}") for key, hint in types.items() if key in table}
    preset_name = values.pop("preset", None)
    entries = convert(table.get("environments"), tuple[Any, ...], f"In {source}: environments")
    values["tasks"] = tuple(
        _task(entry, preset_name, f"In {source}: environments[{index}]") for index, entry in enumerate(entries, 1)
    )
    values["variants"] = tuple(name.replace("_", "-") for name in values.get("variants", ("full",)))
    settings = _settings(table.get("settings", {}), f"In {source}, settings")
    plan = Plan(**{"name": default_name, **values}, settings=settings, source=source)
    for name in plan.variants:
        try:
            combined(name)
        except ConfigError as error:
            raise ConfigError(f"In {source}, variants: {error}") from None
    lists = {"environments": [task.env for task in plan.tasks], "variants": plan.variants, "seeds": plan.seeds}
    for key, items in lists.items():
        if not items or len(set(items)) < len(items):
            raise ConfigError(f"In {source}: {key} is {list(items)!r}, but it must name something, and nothing twice.")
    for key, value, least in (
        ("workers", plan.workers, 1),
        ("threads", plan.threads, 0),
        ("seeds", min(plan.seeds), 0),
    ):
        if value < least:
            raise ConfigError(f"In {source}: {key} is {value}, but it must be at least {least}.")
    return plan


def _table(value: Any, where: str, known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}, but it must be a table.")
    for name in value:
        if name not in known:
            raise ConfigError(f"{where} has an unknown key '{name}'{did_you_mean(name, known, 'the keys are')}")
    return value


def _task(entry: Any, preset_name: str | None, where: str) -> Task:
    entry = _table({"name": entry} if isinstance(entry, str) else entry, where, ("name", "preset", "settings"))
    name = entry.get("preset", preset_name)
    return Task(
        env=convert(entry.get("name"), str, f"{where}.name"),
        preset=None if name is None else convert(name, str, f"{where}.preset"),
        settings=_settings(entry.get("settings", {}), f"{where}.settings"),
    )


def _settings(table: Any, where: str) -> dict[str, Any]:
    """Return settings by their full paths, whether they were written as paths or as tables within tables."""
    found: dict[str, Any] = {}
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is {table!r}, but it must be a table.")
    for name, value in _flat(table):
        try:
            path = resolve(name, PATHS)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if path not in PATHS:
            raise ConfigError(f"{where}: {path} is a group of settings; set one of its fields.")
        if path in OWNED:
            raise ConfigError(f"{where}: {path} cannot be set here, since the plan's {OWNED[path]} say it.")
        if path in found:
            raise ConfigError(f"{where}: {path} is set twice; give it once.")
        found[path] = value
    return found


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in table.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return flat

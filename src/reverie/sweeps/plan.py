"""The plan of a sweep, environments x variants x varied settings x seeds: mistakes are named, with file and key."""

import itertools
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reverie.config import PATHS, as_text, combined, convert, resolve
from reverie.errors import ConfigError
from reverie.runs.layout import SWEEP

SUITES = {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}
"""Plans that come with the package."""
RESOURCES: dict[str, Any] = {"cpus": float, "gpus": float}
TASK_KEYS: dict[str, Any] = {"name": str, "preset": str, "settings": Any}
PLAN_KEYS = TASK_KEYS | {"environments": tuple[Any, ...], "variants": tuple[str, ...], "seeds": tuple[int, ...]}
PLAN_KEYS |= {"vary": Any, "resources": Any, "workers": int, "threads": int, "keep_replay": bool}


@dataclass(frozen=True)
class Task:
    """An environment of the grid; `preset` None is chosen by it, `settings` by path replace the plan's."""

    env: str
    preset: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A grid, and how it is run."""

    name: str
    tasks: tuple[Task, ...]
    variants: tuple[str, ...] = ("full",)
    seeds: tuple[int, ...] = (0,)
    settings: dict[str, Any] = field(default_factory=dict)
    """By path, on top of every preset and below the variants."""
    vary: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values of settings by path; the grid has each combination, on top of `settings` and below the variants."""
    workers: int = 1
    """Runs at a time."""
    threads: int = 0
    """CPU threads of each; 0 divides the usable cores by the workers."""
    resources: dict[str, float] = field(default_factory=dict)
    """CPUs and GPUs of each run in a Ray cluster, `cpus` (1) and `gpus` (0)."""
    keep_replay: bool = True
    """Keep the replay of a run that is done; it is most of what a run takes of the disk."""
    source: str = "the plan"
    """File, for messages."""

    def combinations(self) -> dict[str, dict[str, Any]]:
        """Return the combinations of varied settings by name, as in `lr=0.0003,batch_size=16`; `` where none vary."""
        names = {path: _short(path, self.vary) for path in self.vary}
        found = {}
        for values in itertools.product(*self.vary.values()):
            chosen = dict(zip(self.vary, values, strict=True))
            found[",".join(f"{names[path]}={as_text(value)}" for path, value in chosen.items())] = chosen
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what `parse_plan` turns into the same plan."""
        values = asdict(self)
        del values["source"]
        tasks = [{"name": task.pop("env"), **task} for task in values.pop("tasks")]
        return {**values, "environments": [{k: v for k, v in task.items() if v is not None} for task in tasks]}


def find_plan(given: str) -> Path:
    """Return the plan that a word on the command line means: a file, the folder of a sweep, or a suite."""
    path = SUITES.get(given, Path(given))
    path = path / SWEEP if path.is_dir() else path
    if not path.is_file():
        known = f"a plan (TOML), the folder of a sweep, or one of {', '.join(SUITES)}"
        raise ConfigError(f"There is no plan '{given}'. Give {known}.")
    return path


def read_plan(path: Path) -> Plan:
    """Read a plan from TOML, or from the `sweep.json` of a sweep's folder; raise ConfigError for a mistake in it."""
    kind = "JSON" if path.name == SWEEP else "TOML"
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text) if kind == "TOML" else json.loads(text)["plan"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"The plan {path} cannot be read or is not valid {kind}: {error}.") from None
    return parse_plan(data, str(path), path.stem)


def parse_plan(data: Any, source: str, default_name: str) -> Plan:
    """Return the plan of a TOML table; raise ConfigError for the first mistake."""
    table = {"settings": {}, **_table(data, f"In {source}: ", PLAN_KEYS)}
    preset_name, tasks = table.pop("preset", None), []
    for number, entry in enumerate(table.pop("environments", ()), 1):
        where = f"In {source}: environments[{number}]."
        given = _table({"name": entry} if isinstance(entry, str) else entry, where, TASK_KEYS)
        settings = resolved_settings(given.get("settings", {}), f"{where}settings")
        tasks.append(Task(convert(given.get("name"), str, f"{where}name"), given.get("preset", preset_name), settings))
    table["settings"] = resolved_settings(table["settings"], f"In {source}: settings")
    table["resources"] = _table(table.get("resources", {}), f"In {source}: resources.", RESOURCES)
    table["vary"] = _varied(table.get("vary", {}), table["settings"], f"In {source}: vary")
    table["variants"] = tuple(name.replace("_", "-") for name in table.get("variants", ("full",)))
    plan = Plan(**{"name": default_name, **table}, tasks=tuple(tasks), source=source)
    for name in plan.variants:
        try:
            combined(name)
        except ConfigError as error:
            raise ConfigError(f"In {source}: variants: {error}") from None
    lists = {"environments": [task.env for task in plan.tasks], "variants": plan.variants, "seeds": plan.seeds}
    for key, items in lists.items():
        if not items or len(set(items)) < len(items):
            raise ConfigError(f"In {source}: {key} is {list(items)!r}, but it must name something, and nothing twice.")
    least: dict[str, tuple[float, int]] = {
        "workers": (plan.workers, 1),
        "threads": (plan.threads, 0),
        "seeds": (min(plan.seeds), 0),
    }
    least |= {f"resources.{name}": (amount, 0) for name, amount in plan.resources.items()}
    for key, (value, limit) in least.items():
        if value < limit:
            raise ConfigError(f"In {source}: {key} is {value}, but it must be at least {limit}.")
    return plan


def _table(value: Any, where: str, types: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a table, each converted to the type of its key."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where[:-1]} is {value!r}, but it must be a table.")
    if unknown := [name for name in value if name not in types]:
        raise ConfigError(f"{where}{unknown[0]} is an unknown key; the keys are {', '.join(types)}.")
    return {
        name: entry if types[name] is Any else convert(entry, types[name], where + name)
        for name, entry in value.items()
    }


def resolved_settings(table: Any, where: str) -> dict[str, Any]:
    """Return settings by their full paths, whether they were written as paths or as tables within tables."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is {table!r}, but it must be a table.")
    found: dict[str, Any] = {}
    for name, value in _leaves(table):
        try:
            path = resolve(name, PATHS)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if path in found:
            raise ConfigError(f"{where}: {path} is set twice. Give it once.")
        if path not in PATHS:
            raise ConfigError(f"{where}: {path} is a group of settings. Set one of its fields.")
        found[path] = value
    return found


def _varied(table: Any, settings: Mapping[str, Any], where: str) -> dict[str, tuple[Any, ...]]:
    """Return lists of values by their full paths."""
    found = resolved_settings(table, where)
    for path, values in found.items():
        if not isinstance(values, list) or not values or any(values.count(value) > 1 for value in values):
            raise ConfigError(f"{where}: {path} is {values!r}, but it must be a list of values, none of them twice.")
        if path in settings:
            raise ConfigError(f"{where}: {path} is among the settings, too. Give it once.")
    return {path: tuple(values) for path, values in found.items()}


def _short(path: str, others: Iterable[str]) -> str:
    """Return the shortest end of a path that no other one has."""
    parts = path.split(".")
    ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
    return next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in others) == 1)


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value

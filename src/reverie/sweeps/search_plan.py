"""The plan of a search: that of a sweep, with the settings that are searched and what counts."""

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reverie.config import combined, convert
from reverie.errors import ConfigError
from reverie.sweeps.plan import Plan, parse_plan, resolved_settings
from reverie.sweeps.planned_runs import OWNED


@dataclass(frozen=True)
class Search:
    """A plan of one environment and variant, and the settings that are searched."""

    plan: Plan
    space: Mapping[str, Any]
    """By path: a list of choices, or a table with `low`, `high` and optionally `log`; whole numbers where both are."""
    metric: str = "eval/return"
    """Its last value in each run is what counts, and its mean over the plan's seeds."""
    direction: Literal["maximize", "minimize"] = "maximize"

    def to_json(self) -> dict[str, Any]:
        """Return what makes two searches the same."""
        plan = {name: value for name, value in self.plan.to_json().items() if name not in ("workers", "threads")}
        return {"plan": plan, "space": self.space, "metric": self.metric, "direction": self.direction}


def read_search(path: Path) -> Search:
    """Read a plan with the tables `space` and `objective` from TOML; raise ConfigError for a mistake in it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"The plan {path} cannot be read or is not valid TOML: {error}.") from None
    space, objective = data.pop("space", {}), data.pop("objective", {})
    plan = parse_plan(data, str(path), path.stem)
    sizes = {"environments": len(plan.tasks), "variants": len(plan.variants)}
    for key, size in sizes.items():
        if size != 1:
            raise ConfigError(f"In {path}: {key} names {size}, but a search compares settings of one. Leave one.")
    if plan.vary:
        raise ConfigError(f"In {path}: vary is given, but a search chooses the values itself. Put them under [space].")
    if not isinstance(space, dict) or not space:
        raise ConfigError(f"In {path}: [space] is missing, which names the settings to search. Add it.")
    known = {"metric": str, "direction": str}
    if not isinstance(objective, dict):
        raise ConfigError(f"In {path}: objective is {objective!r}, but it must be a table with metric and direction.")
    for key, value in objective.items():
        if key not in known:
            raise ConfigError(f"In {path}: objective.{key} is an unknown key; the keys are metric, direction.")
        convert(value, str, f"In {path}: objective.{key}")
    if (direction := objective.get("direction", "maximize")) not in ("maximize", "minimize"):
        raise ConfigError(f"In {path}: objective.direction is {direction}, but it must be maximize or minimize.")
    search = Search(plan, _space(space, f"In {path}: space"), **objective)
    fixed = {**plan.settings, **plan.tasks[0].settings, **combined(plan.variants[0]), **dict.fromkeys(OWNED)}
    if both := search.space.keys() & fixed.keys():
        raise ConfigError(f"In {path}: space: {min(both)} is searched, but another part of the plan sets it. Give one.")
    return search


def _space(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return choices and ranges by full path."""
    found: dict[str, Any] = {}
    for name, value in _named(table):
        (path,) = resolved_settings({name: None}, where)
        if isinstance(value, list):
            is_valid = len(value) > 1
        else:
            is_valid = isinstance(value, dict) and {"low", "high"} <= value.keys() <= {"low", "high", "log"}
            is_valid = is_valid and all(type(value[end]) in (int, float) for end in ("low", "high"))
            is_valid = is_valid and value["low"] < value["high"] < math.inf and value.get("log", False) in (True, False)
            is_valid = is_valid and (value["low"] > 0 or not value.get("log"))
        if not is_valid or path in found:
            raise ConfigError(
                f"{where}: {name} is {value!r}, but it must be a list of choices, or a table with low, a larger high, "
                "and log = true for a search of magnitudes above 0; and only once."
            )
        found[path] = value
    return found


def _named(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is searched by the name that was given, whether it was written as a path or as nested tables."""
    for name, value in table.items():
        if isinstance(value, dict) and value and not {"low", "high", "log"} & value.keys():
            yield from _named(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def corners(space: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield values of the space in which each choice and each end of a range occurs."""
    values = {
        path: given if isinstance(given, list) else [given["low"], given["high"]] for path, given in space.items()
    }
    for index in range(max(len(each) for each in values.values())):
        yield {path: each[min(index, len(each) - 1)] for path, each in values.items()}

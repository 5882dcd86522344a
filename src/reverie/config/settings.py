"""Trees of settings: valid ranges, and conversion from and to dictionaries, text and TOML.

These functions serve any tree of `Settings` and know none of its classes, so that the classes of `schema.py` can call
them. They are strict: an unknown name or a value of the wrong type is a `ConfigError` with the full path.
"""

import math
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar

import tomlkit

from reverie.config.names import resolve, unknown_setting
from reverie.config.schedules import Schedule, parse_schedule
from reverie.errors import ConfigError

TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Range(NamedTuple):
    """Range of a number, in the annotation of its field."""

    words: str
    contains: Callable[[Any], bool]


class Settings:
    """Base class of a frozen dataclass of settings and groups of them; numbers are checked by the fields' types.

    A class does not know its place in `Config` and names itself in errors, `OptimizerConfig.eps is 0 ...`. `update`
    knows it, and names the path instead, `behavior.actor.optimizer.eps is 0 ...`.
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self), True).items():  # type: ignore[arg-type]
            value = getattr(self, name)
            for limit in getattr(hint, "__metadata__", ()):
                self._require(limit.contains(value), name, f", but it must be {limit.words}.")
            if value is not None and hint in (Schedule, Schedule | None):
                try:
                    initial = parse_schedule(value, f"{type(self).__name__}.{name}", frames_per_step=1)(0.0)
                except ZeroDivisionError:  # a horizon of 0
                    initial = math.inf
                is_valid = math.isfinite(initial) and initial >= 0
                self._require(is_valid, name, ", but it must be finite and not negative.")

    def _require(self, condition: bool, field: str, problem: str) -> None:
        if not condition:
            raise ConfigError(f"{type(self).__name__}.{field} is {getattr(self, field)}{problem}")


@cache
def _hints(kind: type, include_extras: bool) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=include_extras)


T = TypeVar("T", bound=Settings)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return every setting of a configuration, or of a group, by its path, in the order of the classes."""
    values: dict[str, Any] = {}
    for field in fields(config):
        value, path = getattr(config, field.name), prefix + field.name
        values.update(flatten(value, f"{path}.") if is_dataclass(value) else {path: value})
    return values


def diff(config: Any, base: Any) -> list[tuple[str, Any, Any]]:
    """Return path, value in `base` and value in `config` of each setting that differs."""
    values = flatten(config)
    return [(path, value, values[path]) for path, value in flatten(base).items() if values[path] != value]


def to_dict(config: Any) -> dict[str, Any]:
    """Return a nested dictionary of plain JSON values; tuples become lists."""
    return asdict(
        config,
        dict_factory=lambda items: {name: list(value) if isinstance(value, tuple) else value for name, value in items},
    )


def to_toml(config: Any, comments: Mapping[str, str] | None = None) -> str:
    """Return every setting as TOML, one table a group. None, which TOML does not have, is written as "none".

    Args:
        config: a configuration.
        comments: texts behind some settings, by path.
    """
    tables: dict[str, list[str]] = {}
    for path, value in flatten(config).items():
        *groups, name = path.split(".")
        for depth in range(len(groups)):  # a group comes before those inside it
            tables.setdefault(".".join(groups[: depth + 1]), [])
        plain = "none" if value is None else list(value) if isinstance(value, tuple) else value
        comment = f"  # {comments[path]}" if comments and path in comments else ""
        tables[".".join(groups)].append(f"{name} = {tomlkit.item(plain).as_string()}{comment}\n")
    return "\n".join(f"[{group}]\n{''.join(lines)}" for group, lines in tables.items() if lines)


def override(config: T, settings: Mapping[str, Any]) -> T:
    """Return a copy with some settings, or groups of them, changed; see `Config.override`."""
    known = tuple(flatten(config))
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        path = resolve(name, known)
        *parents, leaf = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"{path} is set twice: by itself, and as a part of its group. Give it once.")
        if leaf in branch:
            raise ConfigError(f"{path} is set twice. Give it once.")
        branch[leaf] = deepcopy(value)  # a mapping of the caller's may be filled in by later settings
    return update(config, tree)


def update(config: T, changes: Mapping[str, Any]) -> T:
    """Return a copy with the settings of a nested dictionary; every group of it checks its fields again.

    Raises:
        ConfigError: if a name is unknown, or a value does not fit.
    """
    known = tuple(flatten(config))

    def changed(group: Any, changes: Mapping[str, Any], prefix: str) -> Any:
        hints, values = _hints(type(group), False), {}  # type: ignore[arg-type]
        for name, value in changes.items():
            path = f"{prefix}{name}"
            if name not in hints:
                raise unknown_setting(path, known)
            elif not is_dataclass(hints[name]):
                values[name] = convert(value, hints[name], path)
            elif isinstance(value, Mapping):
                values[name] = changed(getattr(group, name), value, f"{path}.")
            elif type(value) is hints[name]:
                values[name] = value
            else:
                raise ConfigError(f"{path} is a group of settings and cannot be {value!r}; set one of its fields.")
        try:
            return replace(group, **values)
        except ConfigError as error:
            raise ConfigError(prefix + str(error).removeprefix(f"{type(group).__name__}.")) from None

    result: T = changed(config, changes, "")
    return result


def convert(value: Any, hint: Any, path: str) -> Any:
    """Return the value of one setting from a Python value, or from its text.

    Raises:
        ConfigError: if it does not fit the type; the path is named.
    """
    text, number, arguments = value if isinstance(value, str) else None, _number(value), typing.get_args(hint)
    if hint is bool:
        found = value if text is None else TRUTH.get(text.lower())
        if isinstance(found, bool):
            return found
        wanted = "be true or false"
    elif hint is int:  # in any notation: 20_000, 20_000.0, "2e4"
        if text is not None or type(value) is int:
            with suppress(ValueError):
                return int(value)
        if number is not None and number.is_integer():
            return int(number)
        wanted = "be a whole number"
    elif hint is float:
        if number is not None:
            return number
        wanted = "be a number"
    elif hint is str:
        if text is not None:
            return text
        wanted = "be text"
    elif typing.get_origin(hint) is Literal:
        if text in arguments:
            return text
        wanted = f"be one of {', '.join(arguments)}"
    elif typing.get_origin(hint) is tuple:  # from a list, or from text with commas or blanks between the items
        items = value if text is None else text.replace(",", " ").split()
        if isinstance(items, list | tuple):
            return tuple(convert(item, arguments[0], path) for item in items)
        wanted = "be a list"
    elif float in arguments:  # a schedule; its class checks the text
        if number is not None:
            return number
        if type(None) in arguments and (value is None or str(text).lower() == "none"):
            return None
        if text is not None:
            return text
        wanted = "be a number or a schedule such as linear(1,0,10000)"
    else:
        return value
    raise ConfigError(f"{path} is {value!r}, but it must {wanted}.")


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_text(value: Any) -> str:
    """Return a value as text that `convert` turns into the same value."""
    if isinstance(value, list | tuple):
        return ",".join(map(as_text, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:_}"
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        return short
    return str(value)

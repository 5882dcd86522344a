"""Conversion of configurations from and to dictionaries, text and TOML, by cattrs and tomlkit.

These functions serve any tree of frozen dataclasses and know none of its classes, so that the classes of `schema.py`
can call them. They are strict: an unknown name or a value of the wrong type is a `ConfigError` with the full path.
"""

import math
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, Union, cast

import cattrs
import tomlkit

from reverie.config.names import resolve, unknown_setting
from reverie.config.schedules import Schedule
from reverie.errors import ConfigError

TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class FieldError(ConfigError):
    """Error for the value of a field. `owner` is the class that checks it, `problem` completes the sentence.

    A class does not know its place in `Config` and names itself. `structure` knows it, and names the path instead:
    `OptimizerConfig.eps is 0 ...` becomes `behavior.actor.optimizer.eps is 0 ...`.
    """

    def __init__(self, owner: str, field: str, problem: str) -> None:
        super().__init__(f"{owner}.{field}{problem}" if owner else f"{field}{problem}")
        self.field, self.problem = field, problem


class _Misfit(ValueError):
    """End of a sentence that begins with the path of a setting."""

    def __init__(self, value: Any, wanted: str) -> None:
        super().__init__(f" is {value!r}, but it must {wanted}.")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return every setting of a configuration, or of a group, by its path, in the order of the classes."""
    values: dict[str, Any] = {}
    for field in fields(config):
        value, path = getattr(config, field.name), prefix + field.name
        values.update(flatten(value, f"{path}.") if is_dataclass(value) else {path: value})
    return values


def field_types(kind: Any) -> Mapping[str, Any]:
    """Return the annotated type of every setting by its path."""
    found: dict[str, Any] = {}
    hint: Any
    for name, hint in typing.get_type_hints(kind).items():
        below = field_types(hint) if is_dataclass(hint) else {}
        found.update({f"{name}.{path}": leaf for path, leaf in below.items()} or {name: hint})
    return found


def override(config: Any, settings: Mapping[str, Any]) -> Any:
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
        branch[leaf] = value
    return update(config, tree)


def update(config: Any, changes: Mapping[str, Any]) -> Any:
    """Return a copy with the settings of a nested dictionary; every class checks its fields again.

    Raises:
        ConfigError: if a name is unknown, or a value does not fit.
    """
    try:
        return _CONVERTER.structure(_merged(asdict(config), changes, ""), type(config))
    except cattrs.BaseValidationError as error:
        raise _first_error(error, "", tuple(flatten(config))) from None


def convert(value: Any, hint: Any, path: str) -> Any:
    """Return the value of one setting from a Python value, or from its text.

    Raises:
        ConfigError: if it does not fit the type; the path is named.
    """
    try:
        return _CONVERTER.structure(value, hint)
    except _Misfit as error:
        raise ConfigError(f"{path}{error}") from None


def as_text(value: Any) -> str:
    """Return a value as text that `convert` turns into the same value."""
    if isinstance(value, list | tuple):
        return ",".join(as_text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


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


def _merged(base: dict[str, Any], changes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    result = dict(base)
    for name, value in changes.items():
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        if isinstance(base.get(name), dict):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{prefix}{name} is a group of settings and cannot be {value!r}; set one of its fields."
                )
            value = _merged(base[name], value, f"{prefix}{name}.")
        result[name] = value
    return result


def _first_error(error: Exception, prefix: str, known: tuple[str, ...]) -> ConfigError:
    """Return the first of cattrs' errors as a sentence with the path of the setting."""
    if isinstance(error, cattrs.ClassValidationError):
        of_fields, others = error.group_exceptions()
        if of_fields:
            first, note = of_fields[0]
            return _first_error(first, f"{prefix}{note.name}.", known)
        return _first_error(others[0], prefix, known)
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        return unknown_setting(f"{prefix}{min(map(str, error.extra_fields))}", known)
    if isinstance(error, FieldError):
        return ConfigError(f"{prefix}{error.field}{error.problem}")
    if isinstance(error, _Misfit):
        return ConfigError(f"{prefix.removesuffix('.')}{error}")
    raise error


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@_CONVERTER.register_structure_hook
def _bool(value: Any, _: Any) -> bool:
    found = TRUTH.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise _Misfit(value, "be true or false")
    return found


@_CONVERTER.register_structure_hook
def _int(value: Any, _: Any) -> int:
    """Whole numbers in any notation: 20_000, 20_000.0, "2e4"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        with suppress(ValueError):
            return int(value)
    number = _number(value)
    if number is None or not number.is_integer():
        raise _Misfit(value, "be a whole number")
    return int(number)


@_CONVERTER.register_structure_hook
def _float(value: Any, _: Any) -> float:
    number = _number(value)
    if number is None:
        raise _Misfit(value, "be a number")
    return number


@_CONVERTER.register_structure_hook
def _str(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _Misfit(value, "be text")
    return value


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _schedule(value: Any, hint: Any) -> Schedule | None:
    """Numbers become floats, text stays. The field's class checks that it is a schedule."""
    if hint != Schedule and (value is None or (isinstance(value, str) and value.lower() == "none")):
        return None
    number = _number(value)
    if number is None and not isinstance(value, str):
        raise _Misfit(value, "be a number or a schedule such as linear(1,0,10000)")
    return cast(Schedule, value) if number is None else number


def _literal(value: Any, hint: Any) -> Any:
    choices = typing.get_args(hint)
    if not isinstance(value, str) or value not in choices:
        raise _Misfit(value, f"be one of {', '.join(choices)}")
    return value


def _tuple(value: Any, hint: Any) -> tuple[Any, ...]:
    """From a list, a tuple, or text with commas or blanks between the items."""
    hints = typing.get_args(hint)
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise _Misfit(value, "be a list")
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(items)
    if len(items) != len(hints):
        raise _Misfit(value, f"have {len(hints)} items")
    return tuple(_CONVERTER.structure(item, one) for item, one in zip(items, hints, strict=True))


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (Union, types.UnionType)


_CONVERTER.register_structure_hook_func(_is_union, _schedule)
_CONVERTER.register_structure_hook_func(lambda hint: typing.get_origin(cast(Any, hint)) is Literal, _literal)
_CONVERTER.register_structure_hook_func(lambda hint: typing.get_origin(cast(Any, hint)) is tuple, _tuple)

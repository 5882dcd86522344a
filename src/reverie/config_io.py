"""Settings by name: set, compare, save and load a `Config`.

A setting is named by its path, `world_model.kl.scale`; in `training` its bare name will do, `steps`. Hyphens and
underscores mean the same. Everything here is strict: an unknown name or a value of the wrong type is a `ConfigError`
that gives the full path and, where there is one, the nearest valid name.
"""

import difflib
import json
import math
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from reverie.config import Config, FieldError, TrainingConfig
from reverie.errors import ConfigError, RunError
from reverie.files import write_whole
from reverie.schedules import Schedule, in_steps

Node = TypeVar("Node")

RENAMED = {
    "timeout": "step_timeout",
    "max_faults": "max_restarts_per_hour",
    "noops": "noop_max",
    "variables": "stoch",
    "kl.transition": "kl.prior_scale",
    "kl.entropy": "kl.posterior_entropy_scale",
    "scales": "loss_scales",
    "gradients": "head_gradients",
    "clip": "max_grad_norm",
    "decay": "weight_decay_on",
    "target_every": "target_update_interval",
    "target_fraction": "target_tau",
    "lambda": "return_lambda",
    "sync_every": "fsync_interval",
    "overlap": "async_collection",
    "max_skips": "max_nonfinite_updates",
}
"""Present names of renamed settings and groups; an error answers the old name by the present one."""

SHORT = "training"
"""The fields of this part are also known by their bare names."""

TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting of a configuration (or of a part of one) by its path, in the order of the classes."""
    values: dict[str, Any] = {}
    for field in fields(config):
        value, path = getattr(config, field.name), prefix + field.name
        values.update(flatten(value, path + ".") if is_dataclass(value) else {path: value})
    return values


@cache
def paths() -> tuple[str, ...]:
    """The path of every setting."""
    return tuple(flatten(Config()))


def resolve(name: str) -> str:
    """Path of a setting, or of a part such as `world_model.kl`, from a name that the user gave.

    Raises:
        ConfigError: if there is none; the message gives the nearest valid names.
    """
    known = set(paths())
    parts = {path[:i] for path in known for i, letter in enumerate(path) if letter == "."}
    plain = name.replace("-", "_")
    for candidate in (plain, f"{SHORT}.{plain}"):
        if candidate in known or candidate in parts:
            return candidate
    raise unknown_setting(name, nearest_settings(name))


def unknown_setting(name: str, near: list[str]) -> ConfigError:
    """Return the error for an unknown name: with the present name if it was renamed, else with the nearest ones."""
    present = renamed(name)
    if present:
        return ConfigError(f"There is no setting '{name}'. It is now {any_of(present)}.")
    return ConfigError(f"There is no setting '{name}'{did_you_mean(near)}")


def renamed(name: str) -> list[str]:
    """Return the paths that a renamed setting may have now; none if the name was never in use."""
    plain = name.replace("-", "_").rstrip("_")
    present = plain
    for old, new in RENAMED.items():
        present = re.sub(rf"(?<![\w]){re.escape(old)}(?!\w)", new, present)
    if present == plain:
        return []
    known = paths()
    groups = {path[:i] for path in known for i, letter in enumerate(path) if letter == "."}
    return [path for path in (*known, *sorted(groups)) if f".{path}".endswith(f".{present}")]


def nearest_settings(name: str) -> list[str]:
    """Paths that a misspelt name may have meant, best first: by the whole path, or by its last part."""
    plain = name.replace("-", "_")
    known = paths()
    by_leaf: dict[str, list[str]] = {}
    for path in known:
        by_leaf.setdefault(path.rsplit(".", 1)[-1], []).append(path)
    leaf = plain.rsplit(".", 1)[-1]
    if leaf in by_leaf:
        # The last part is right: of the places that have it, the most similar come first.
        return sorted(by_leaf[leaf], key=lambda path: -difflib.SequenceMatcher(None, plain, path).ratio())[:3]
    close = nearest(plain, [*known, *(path.removeprefix(f"{SHORT}.") for path in known)], 1)
    if not close:
        return [path for match in nearest(leaf, by_leaf, 1) for path in by_leaf[match][:3]]
    return [path if path in known else f"{SHORT}.{path}" for path in close]


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The most similar of some names, best first; none if nothing is similar. Case does not count."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    return [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, count, 0.55)]


def did_you_mean(names: list[str]) -> str:
    """The end of a sentence: `; did you mean a, b or c?`, or a full stop if there are no names."""
    if not names:
        return "."
    return f"; did you mean {any_of(names)}?"


def any_of(names: list[str]) -> str:
    """Return names as a list in a sentence: `a, b or c`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def option(path: str) -> str:
    """The command-line option that sets the setting of this path."""
    return "--" + path.removeprefix(f"{SHORT}.").replace("_", "-")


def as_text(value: Any) -> str:
    """A setting's value as text that `convert` turns into the same value."""
    if isinstance(value, list | tuple):
        return ",".join(as_text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def set_field(config: Config, name: str, value: Any) -> Config:
    """Copy of a configuration with one setting changed.

    Args:
        config: what is changed; it stays as it is.
        name: path, or bare name of a field of `training`.
        value: the new value, or its text as on the command line (`"2e4"`, `"true"`, `"linear(1,0,1000)"`); for a
            part of the configuration, a mapping of the settings to change in it.

    Raises:
        ConfigError: if the name is unknown, or the value does not fit.
    """
    return set_fields(config, {name: value})


def set_fields(config: Config, settings: Mapping[str, Any]) -> Config:
    """Copy with several settings changed at once; see `set_field`."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        path = resolve(name)
        *parts, leaf = path.split(".")
        branch = tree
        for part in parts:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"{path} is set twice: by itself, and as a part of {path.rsplit('.', 1)[0]}.")
        if leaf in branch:
            raise ConfigError(f"{path} is set twice; give it once.")
        branch[leaf] = value
    return _rebuild(config, tree, "")


def schedules_in_steps(config: Config) -> Config:
    """Copy whose schedules count agent steps only, as learning does; the configuration itself if all of them do."""
    values = flatten(config)
    schedules = [path for path, hint in field_types() if hint in (Schedule, Schedule | None)]
    counted = {path: in_steps(values[path], config.env.action_repeat) for path in schedules}
    changed = {path: schedule for path, schedule in counted.items() if schedule != values[path]}
    return set_fields(config, changed) if changed else config


def to_dict(config: Any) -> dict[str, Any]:
    """Nested dictionary of plain JSON values; tuples become lists."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {
        name: to_dict(value) if is_dataclass(value) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def from_dict(data: Mapping[str, Any]) -> Config:
    """The inverse of `to_dict`. Settings that are absent take the default of `Config`.

    Raises:
        ConfigError: if a name is unknown, or a value does not fit.
    """
    return _rebuild(Config(), data, "")


def save(config: Config, path: str | os.PathLike[str]) -> None:
    """Write a configuration as JSON; a reader sees the old file or the new one, never half of it."""
    write_whole(Path(path), (json.dumps(to_dict(config), indent=2) + "\n").encode())


def load(path: str | os.PathLike[str]) -> Config:
    """Read what `save` wrote.

    Raises:
        ConfigError: if the file is missing, is not JSON, or holds an unknown or unfitting setting.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"The configuration {path} is not valid JSON: {error}.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"The configuration {path} does not hold a JSON object.")
    try:
        return from_dict(data)
    except ConfigError as error:
        raise ConfigError(f"In the configuration {path}: {error}") from None


def saved_settings(run: str | os.PathLike[str]) -> Config | None:
    """Return the configuration in a run's folder, which a resumed run starts from; None if there is no run.

    Raises:
        ConfigError: as `load` does.
        RunError: if there are checkpoints or metrics, but no configuration.
    """
    folder = Path(run)
    path = folder / "config.json"
    if path.is_file():
        return load(path)
    metrics = folder / "metrics.jsonl"
    if any((folder / "checkpoints").glob("[!.]*")) or (metrics.is_file() and metrics.stat().st_size):
        raise RunError(
            f"{folder} cannot be resumed, since its {path.name} is missing. Restore it from a copy, or choose another "
            "--logdir."
        )
    return None


def diff(config: Config, base: Config) -> list[tuple[str, Any, Any]]:
    """What distinguishes a configuration: (path, value in `base`, value in `config`) of each setting that differs."""
    values = flatten(config)
    return [(path, value, values[path]) for path, value in flatten(base).items() if values[path] != value]


def field_types() -> Iterator[tuple[str, Any]]:
    """Path and annotated type of every setting."""
    yield from _field_types(Config, "")


def _field_types(owner: type, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(owner)
    for field in fields(owner):
        hint = hints[field.name]
        if is_dataclass(hint):
            yield from _field_types(typing.cast(type, hint), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, hint


def _rebuild(node: Node, changes: Mapping[str, Any], prefix: str) -> Node:
    """Copy of a dataclass tree with changes, each class constructed once and so checked as a whole."""
    hints = typing.get_type_hints(type(node))
    names = [field.name for field in fields(node)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in changes.items():
        path = f"{prefix}{name}"
        if name not in names:
            near = [prefix + match for match in nearest(str(name), names, 1)] or nearest_settings(path)
            raise unknown_setting(path, near)
        hint = hints[name]
        if not is_dataclass(hint):
            values[name] = convert(value, hint, path)
        elif isinstance(value, typing.cast(type, hint)):
            values[name] = value
        elif isinstance(value, Mapping):
            values[name] = _rebuild(getattr(node, name), value, f"{path}.")
        else:
            raise ConfigError(f"{path} is a group of settings and cannot be {value!r}; set one of its fields.")
    try:
        return replace(node, **values)  # type: ignore[type-var]
    except FieldError as error:
        # The configuration itself names full paths; every other class only knows its own name.
        owner = prefix.rstrip(".") or error.owner
        raise FieldError(owner, error.field, error.problem) from None


def convert(value: Any, hint: Any, path: str) -> Any:
    """Value of a field of the given type from a Python value, or from its text.

    Raises:
        ConfigError: if it does not fit; `path` is named.
    """
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in choices:
            return value
        raise ConfigError(f"{path} is {value!r}, but it must be one of {', '.join(choices)}.")
    if hint == Schedule:
        return _schedule(value, path)
    if origin in (Union, types.UnionType) and types.NoneType in choices:
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return _schedule(value, path)
    if origin is tuple:
        return _tuple(value, choices, path)
    scalars = {bool: (_bool, "true or false"), int: (_int, "a whole number"), float: (_float, "a number")}
    if hint in scalars:
        function, description = scalars[hint]
        result = function(value)
        if result is None:
            raise ConfigError(f"{path} is {value!r}, but it must be {description}.")
        return result
    if hint is not str:
        raise TypeError(f"{path} has a type that config_io does not know: {hint}")
    if not isinstance(value, str):
        raise ConfigError(f"{path} is {value!r}, but it must be text.")
    return value


def _bool(value: Any) -> bool | None:
    return TRUTH.get(value.lower()) if isinstance(value, str) else value if isinstance(value, bool) else None


def _float(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _int(value: Any) -> int | None:
    """Whole numbers in any notation: 20_000, 20_000.0, "2e4"."""
    if isinstance(value, str) and value.strip().lstrip("+-").replace("_", "").isdigit():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _float(value)
    return int(number) if number is not None and number.is_integer() else None


def _schedule(value: Any, path: str) -> Schedule:
    """Numbers become floats, text stays; whether it is a schedule is for the field's class to check."""
    number = _float(value)
    if number is not None:
        return number
    if isinstance(value, str):
        return value
    raise ConfigError(f"{path} is {value!r}, but it must be a number or a schedule such as linear(1,0,10000).")


def _tuple(value: Any, hints: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    """From a list, a tuple, or text with commas or blanks between the items."""
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ConfigError(f"{path} is {value!r}, but it must be a list.")
    repeated = len(hints) == 2 and hints[1] is Ellipsis
    if not repeated and len(items) != len(hints):
        raise ConfigError(f"{path} is {value!r}, but it must have {len(hints)} items.")
    item_hints = [hints[0]] * len(items) if repeated else list(hints)
    return tuple(convert(item, item_hint, path) for item, item_hint in zip(items, item_hints, strict=True))


SHORT_NAMES = tuple(field.name for field in fields(TrainingConfig))
"""The settings that have a bare name."""

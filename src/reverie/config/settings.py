"""Settings of `Config` by name: paths, types, differences, dictionaries."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from reverie.config import conversion, names
from reverie.config.conversion import flatten
from reverie.config.schedules import Schedule, in_steps
from reverie.config.schema import Config

PATHS = tuple(flatten(Config()))
"""Path of every setting, in the order of the classes."""

FIELD_TYPES: Mapping[str, Any] = conversion.field_types(Config)
"""Annotated type of every setting by its path."""


def resolve(name: str) -> str:
    """Return the path of a setting, or of a group such as `world_model.kl`, from a name that a user typed.

    Raises:
        ConfigError: if there is none; the message has the present name of a renamed setting, or the nearest names.
    """
    return names.resolve(name, PATHS)


def renamed(name: str) -> list[str]:
    """Return the paths that a renamed setting may have now; none if the name was never in use."""
    return names.renamed(name, PATHS)


def nearest_settings(name: str) -> list[str]:
    """Return paths that a misspelt name may mean, best first."""
    return names.nearest_settings(name, PATHS)


def diff(config: Config, base: Config) -> list[tuple[str, Any, Any]]:
    """Return path, value in `base` and value in `config` of each setting that differs."""
    values = flatten(config)
    return [(path, value, values[path]) for path, value in flatten(base).items() if values[path] != value]


def to_dict(config: Config) -> dict[str, Any]:
    """Return a nested dictionary of plain JSON values; tuples become lists."""
    return asdict(
        config,
        dict_factory=lambda items: {name: list(value) if isinstance(value, tuple) else value for name, value in items},
    )


def from_dict(data: Mapping[str, Any], base: Config | None = None) -> Config:
    """Return the inverse of `to_dict`. Absent settings have the value of `base`, or the default.

    Raises:
        ConfigError: if a name is unknown, or a value does not fit.
    """
    config: Config = conversion.update(base or Config(), data)
    return config


def config_in_steps(config: Config) -> Config:
    """Return a copy whose schedules count agent steps only, as learning does; the same object if all of them do."""
    schedules = (path for path, hint in FIELD_TYPES.items() if hint in (Schedule, Schedule | None))
    values = flatten(config)
    changed = {
        path: schedule
        for path in schedules
        if (schedule := in_steps(values[path], config.env.action_repeat)) != values[path]
    }
    return config.override(**changed) if changed else config

"""Help of a command with every setting, in groups, with the values of a configuration as defaults."""

import inspect
import typing
from collections.abc import Set
from dataclasses import field, fields, is_dataclass, make_dataclass
from typing import Annotated, Any

import tyro
from docstring_parser import parse_from_object

from reverie.config import SHORT, Config

ORDER = (SHORT, "env", "replay", "behavior", "world_model")
"""Groups of settings, those that most users change first."""


def with_settings(command: type, config: Config, origin: str) -> type:
    """Return a command that has the settings as further options, for its help.

    Args:
        command: dataclass of the command's own arguments. Its options hide settings of the same name.
        config: defaults.
        origin: their source, named in the help.
    """
    own = {one.name for one in fields(command)}
    members = []
    for group in ORDER:
        value = _documented(getattr(config, group), own if group == SHORT else set())
        style = tyro.conf.arg(name="" if group == SHORT else group)
        members.append((f"{group}_group", Annotated[type(value), tyro.conf.FlagConversionOff, style], value))
    shown = make_dataclass(command.__name__, members, bases=(command,), frozen=True)
    shown.__doc__ = f"{inspect.getdoc(command)}\n\nDefaults below: {origin}"
    return shown


def _documented(group: Any, hidden: Set[str] = frozenset()) -> Any:
    """Return a copy of a group whose texts have no line breaks; tyro would keep those of the source."""
    documented = [parse_from_object(kind) for kind in reversed(type(group).__mro__[:-1])]
    texts = {entry.arg_name: " ".join(str(entry.description).split()) for text in documented for entry in text.params}
    hints = typing.get_type_hints(type(group))
    members: list[tuple[str, Any, Any]] = []
    for one in fields(group):
        if one.name in hidden:
            continue
        value = getattr(group, one.name)
        if is_dataclass(value):
            value = _documented(value)
            hints[one.name] = type(value)
        hint: Any = hints[one.name]
        members.append((one.name, Annotated[hint, tyro.conf.arg(help=texts.get(one.name))], field(default=value)))
    return make_dataclass(type(group).__name__, members, frozen=True, namespace={"__doc__": type(group).__doc__})()

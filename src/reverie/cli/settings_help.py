"""Help of a command with every setting, in groups, with the values of a configuration as defaults."""

import ast
import inspect
import textwrap
import typing
from dataclasses import field, fields, is_dataclass, make_dataclass
from itertools import pairwise
from typing import Annotated, Any

import tyro

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
        kind = _documented(getattr(config, group), own if group == SHORT else set())
        style = tyro.conf.arg(name="" if group == SHORT else group)
        members.append((f"{group}_group", Annotated[kind, tyro.conf.FlagConversionOff, style], kind()))
    shown = make_dataclass(command.__name__, members, bases=(command,), frozen=True)
    shown.__doc__ = f"{inspect.getdoc(command)}\n\nDefaults below: {origin}"
    return shown


def _documented(group: Any, hidden: set[str]) -> type:
    """Return a dataclass with the values of a group as defaults, and the text below each field without line breaks."""
    hints = typing.get_type_hints(type(group))
    texts = _texts(type(group))
    members: list[tuple[str, Any, Any]] = []
    for one in fields(group):
        value = getattr(group, one.name)
        if is_dataclass(value):
            below = _documented(value, set())
            members.append((one.name, below, field(default=below())))
        elif one.name not in hidden:
            hint, text = hints[one.name], tyro.conf.arg(help=texts[one.name])
            members.append((one.name, Annotated[hint, text], field(default=value)))
    documented = make_dataclass(type(group).__name__, members, frozen=True)
    documented.__doc__ = type(group).__doc__
    return documented


def _texts(kind: type) -> dict[str, str]:
    """Return the text below each field, those of base classes included. tyro would keep its line breaks."""
    texts: dict[str, str] = {}
    for owner in reversed([base for base in kind.__mro__ if is_dataclass(base)]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(tree, ast.ClassDef)
        for line, below in pairwise(tree.body):
            if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr):
                texts[ast.unparse(line.target)] = " ".join(ast.literal_eval(below.value).split())
    return texts

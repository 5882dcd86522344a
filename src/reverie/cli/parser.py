"""Parser of the command line.

A command is a dataclass of its arguments with a method `__call__`. Fields without a default, and those marked
`tyro.conf.Positional`, are positional, the others are options; tyro reads them and writes the help. A `SettingsCommand`
takes every setting of the configuration, too, by its path (`--world-model.kl.scale 0.1`, `--steps 2e4`). Those are
taken out first and go through `Config.override`, so that the same names, values and messages hold here and in Python.
"""

import contextlib
import io
import re
import shlex
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from itertools import takewhile
from typing import Any, NamedTuple

import tyro
from tyro.extras import SubcommandApp

from reverie.cli.console import UsageError, unknown
from reverie.cli.settings_help import with_settings
from reverie.config import FIELD_TYPES, Config, any_of, nearest, option, preset, renamed, resolve
from reverie.errors import ConfigError

_HELP = ("-h", "--help")
_STYLE = (
    tyro.conf.PositionalRequiredArgs,
    tyro.conf.PositionalMetavarFromFieldName,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.DisallowNone,
)


class Base(NamedTuple):
    """The configuration that a command's settings change."""

    config: Config
    origin: str
    """Source as the help names it: `preset atari.`."""
    preset: str | None = None


@dataclass(frozen=True)
class SettingsCommand(ABC):
    """Command that takes every setting of the configuration as an option."""

    settings: dict[str, Any] = field(init=False, default_factory=dict)
    """Given settings by path, as text."""
    argv: list[str] = field(init=False, default_factory=list)
    """Command line after `reverie`."""

    @abstractmethod
    def base(self) -> Base:
        """Return the configuration whose values the help shows."""

    @abstractmethod
    def __call__(self) -> None: ...

    @property
    def configured(self) -> Config:
        """The base with the given settings."""
        return self.base().config.override(**self.settings)

    @property
    def typed(self) -> str:
        """Command line for a shell."""
        return shlex.join(["reverie", *self.argv])


class Group(NamedTuple):
    """Commands by name."""

    summary: str
    commands: "Mapping[str, type[Any] | Group]"


def of_preset(name: str, reason: str = "") -> Base:
    """Return the configuration of a preset."""
    plain = name.replace("_", "-")
    return Base(preset(name), f"preset {plain}{reason}.", plain)


def parse(group: Group, argv: Sequence[str]) -> Callable[[], None]:
    """Return the command of a command line.

    Raises:
        UsageError: if the command line is wrong.
        SystemExit: after help.
    """
    words, title = list(argv), "reverie"
    found: type[Any] | Group = group
    while isinstance(found, Group):
        name, listed = (words.pop(0) if words else ""), ", ".join(found.commands)
        if name in _HELP:
            _print_overview(title, found)
        is_option = name.startswith("-")
        if not name or (is_option and found is not group):
            raise UsageError(f"The command is missing. Type {title} COMMAND, one of {listed}.")
        if name not in found.commands:
            near = nearest(name, ["--help", "--version"] if is_option else found.commands, 1)
            unknown(f"There is no {'option' if is_option else 'command'}", name, near, f"; the commands are {listed}.")
        title, found = f"{title} {name}", found.commands[name]
    return _parse_command(title, found, words, argv)


def _parse_command(title: str, kind: type[Any], words: list[str], argv: Sequence[str]) -> Callable[[], None]:
    takes_settings = issubclass(kind, SettingsCommand)
    arguments, settings = _split(title, words, _own_options(kind), takes_settings)
    asks_help = not set(_HELP).isdisjoint(arguments)
    if asks_help and not takes_settings:
        tyro.cli(kind, prog=title, args=["--help"], config=_STYLE)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            given = [word for word in arguments if word not in _HELP]
            command: Callable[[], None] = tyro.cli(kind, prog=title, args=given, config=_STYLE)
    except SystemExit:
        raise UsageError(_one_line(printed.getvalue(), title)) from None
    if isinstance(command, SettingsCommand):
        command.settings.update(settings)
        command.argv.extend(argv)
        if asks_help:
            shown = with_settings(kind, command.configured, command.base().origin)
            tyro.cli(shown, prog=title, args=["--help"], config=_STYLE)
    return command


def _print_overview(title: str, group: Group) -> None:
    app = SubcommandApp()
    for name, entry in group.commands.items():
        summary = entry.summary if isinstance(entry, Group) else (entry.__doc__ or "").partition("\n")[0]
        app.command(name=name, help=summary)(lambda: None)
    app.cli(prog=title, description=group.summary, args=["--help"])


def _one_line(box: str, title: str) -> str:
    """Return tyro's message as a sentence: the text of its box between title and first rule."""
    text = " ".join(re.split("[─-]{4,}", box)[1].strip("╮").replace("│", " ").split())
    text = re.sub(r"Missing from .*?: (\S+).*", r"\1 is missing", text)
    return f"{text.removesuffix('.')}. Type {title} --help."


def _own_options(kind: type) -> list[str]:
    hints = typing.get_type_hints(kind, include_extras=True)
    own = [one.name for one in fields(kind) if one.init and one.default is not MISSING]
    return [f"--{name.replace('_', '-')}" for name in own if tyro.conf.Positional not in typing.get_args(hints[name])]


def _split(title: str, words: list[str], own: list[str], takes_settings: bool) -> tuple[list[str], dict[str, Any]]:
    """Separate the settings from the words that tyro reads."""
    rest: list[str] = []
    settings: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if not _is_option(word) or flag.replace("_", "-") in own or flag in _HELP:
            rest.append(word)
            continue
        path = _setting(title, flag, own, takes_settings)
        if path in settings:
            raise UsageError(f"{flag} is given twice.")
        settings[path] = value if equals else _take(flag, FIELD_TYPES[path], words)
    return rest, settings


def _setting(title: str, flag: str, own: list[str], takes_settings: bool) -> str:
    """Return the path of the setting that an option names."""
    name, known = "env.name" if flag == "--env" else flag.removeprefix("--"), FIELD_TYPES if takes_settings else {}
    with contextlib.suppress(ConfigError):
        if (path := resolve(name)) in known:
            return path
        if group := [option(member) for member in known if member.startswith(f"{path}.")]:
            raise UsageError(f"{flag} is a group of settings; set one of them, such as {group[0]}.")
    if takes_settings and (present := renamed(name)):
        raise UsageError(f"{title} has no option '{flag}'. It is now {any_of([option(path) for path in present])}.")
    # Several settings may end in just these words. Then all of them are named.
    exact = [option(path) for path in known if path.endswith(f".{name.replace('-', '_')}")][:3]
    near = exact or nearest(flag, [*own, *map(option, known)], 1)
    unknown(f"{title} has no option", flag, near, f"; see {title} --help.")


def _take(flag: str, hint: Any, words: list[str]) -> Any:
    """Take the value of a setting from the words that follow it."""
    values = list(takewhile(lambda word: not _is_option(word), words))
    count = 1
    if typing.get_origin(hint) is tuple and not (values and "," in values[0]):
        items = typing.get_args(hint)
        count = max(1, len(values)) if items[-1] is Ellipsis else len(items)
    if len(values) < count:
        needed = "true or false" if hint is bool else "a value" if count < 2 else f"{count} values"
        raise UsageError(f"{flag} needs {needed}.")
    del words[:count]
    return values[:count] if count > 1 else values[0]


def _is_option(word: str) -> bool:
    return re.match(r"-[^\d.]", word) is not None  # not the numbers -1 and -.5

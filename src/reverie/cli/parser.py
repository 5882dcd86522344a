"""Parser of the command line.

A command is a dataclass of its arguments with a method `__call__`. Fields without a default, and those marked
`tyro.conf.Positional`, are positional, the others are options; tyro reads them and writes the help. A `SettingsCommand`
takes every setting of the configuration, too, by its path (`--world-model.kl.scale 0.1`, `--steps 2e4`). Those are
taken out first and go through `Config.override`, so that the same names, values and messages hold here and in Python.
"""

import contextlib
import difflib
import io
import re
import shlex
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from itertools import takewhile
from typing import Any, NamedTuple, NoReturn

import tyro
from tyro.extras import SubcommandApp

from reverie.cli.console import UsageError, unknown
from reverie.cli.settings_help import with_settings
from reverie.config import FIELD_TYPES, Config, any_of, nearest, nearest_settings, option, renamed, resolve
from reverie.errors import ConfigError

Command = Callable[[], None]
"""A command with its arguments."""

_HELP = {"-h", "--help"}
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
    """Its name, such as "preset atari", and why it is this one."""


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
    def typed(self) -> str:
        """Command line for a shell."""
        return shlex.join(["reverie", *self.argv])


class Group(NamedTuple):
    """Commands by name."""

    summary: str
    commands: "Mapping[str, type[Any] | Group]"
    """Classes of commands, or further groups."""


def parse(group: Group, argv: Sequence[str]) -> Command:
    """Return the command of a command line.

    Raises:
        UsageError: if the command line is wrong.
        SystemExit: after help.
    """
    words = list(argv)
    names = ["reverie"]
    found: type[Any] | Group = group
    while isinstance(found, Group):
        name = words.pop(0) if words else ""
        if name in _HELP:
            _print_overview(" ".join(names), found)
        title, listed = " ".join([*names, "COMMAND"]), ", ".join(found.commands)
        if not name or (name.startswith("-") and len(names) > 1):
            raise UsageError(f"The command is missing. Type {title}, one of {listed}.")
        if name not in found.commands:
            is_option = name.startswith("-")
            near = nearest(name, ["--help", "--version"] if is_option else found.commands, 1)
            unknown(f"There is no {'option' if is_option else 'command'}", name, near, f"; the commands are {listed}.")
        names.append(name)
        found = found.commands[name]
    return _parse_command(" ".join(names), found, words, list(argv))


def _parse_command(title: str, kind: type[Any], words: list[str], argv: list[str]) -> Command:
    takes_settings = issubclass(kind, SettingsCommand)
    rest, settings = _split(title, words, _own_options(kind), takes_settings)
    arguments = [word for word in rest if word not in _HELP]
    asks_help = len(arguments) < len(rest)
    if asks_help and not takes_settings:
        _print_help(title, kind)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            command = tyro.cli(kind, prog=title, args=arguments, config=_STYLE)
    except SystemExit:
        raise UsageError(_one_line(said.getvalue(), title)) from None
    if isinstance(command, SettingsCommand):
        command.settings.update(settings)
        command.argv.extend(argv)
        if asks_help:
            base = command.base()
            _print_help(title, with_settings(kind, base.config.override(**settings), base.origin))
    return command


def _print_help(title: str, kind: Any) -> NoReturn:
    tyro.cli(kind, prog=title, args=["--help"], config=_STYLE)
    raise AssertionError("tyro exits after help")


def _print_overview(title: str, group: Group) -> NoReturn:
    app = SubcommandApp()
    for name, entry in group.commands.items():
        summary = entry.summary if isinstance(entry, Group) else (entry.__doc__ or "").partition("\n")[0]
        app.command(name=name, help=summary)(lambda: None)
    app.cli(prog=title, description=group.summary, args=["--help"])
    raise AssertionError("tyro exits after help")


def _one_line(box: str, title: str) -> str:
    """Return tyro's message as a sentence: the text of its box between title and first rule."""
    text = " ".join(re.split("[─-]{4,}", box)[1].strip("╮").replace("│", " ").split())
    if missing := re.match(r"Missing from .*?: (\S+)", text):
        text = f"{missing[1]} is missing"
    return f"{text.removesuffix('.')}. Type {title} --help."


def _own_options(kind: type) -> set[str]:
    hints = typing.get_type_hints(kind, include_extras=True)
    options = set()
    for one in fields(kind):
        is_required = one.default is MISSING and one.default_factory is MISSING
        if one.init and not is_required and tyro.conf.Positional not in typing.get_args(hints[one.name]):
            options.add(f"--{one.name.replace('_', '-')}")
    return options


def _split(title: str, words: list[str], own: set[str], takes_settings: bool) -> tuple[list[str], dict[str, Any]]:
    """Separate the settings from the words that tyro reads."""
    rest: list[str] = []
    settings: dict[str, Any] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        if not _is_option(word) or flag.replace("_", "-") in own | _HELP:
            rest.append(word)
            continue
        path = _setting(title, flag, own, takes_settings)
        if path in settings:
            raise UsageError(f"{flag} is given twice.")
        settings[path] = value if equals else _take(flag, FIELD_TYPES[path], waiting)
    return rest, settings


def _setting(title: str, flag: str, own: Iterable[str], takes_settings: bool) -> str:
    """Return the path of the setting that an option names."""
    name = flag.lstrip("-")
    if takes_settings and flag.startswith("--"):
        with contextlib.suppress(ConfigError):
            path = resolve("env.name" if name == "env" else name)
            if path in FIELD_TYPES:
                return path
            member = next(option(member) for member in FIELD_TYPES if member.startswith(f"{path}."))
            raise UsageError(f"{flag} is a group of settings; set one of them, such as {member}.")
    if takes_settings and (present := renamed(name)):
        raise UsageError(f"{title} has no option '{flag}'. It is now {any_of([option(path) for path in present])}.")
    settings = [option(near) for near in nearest_settings(name)] if takes_settings else []
    # Several settings may end in just these words. Then all of them are named.
    exact = [near for near in settings if near.endswith(f".{name.replace('_', '-')}")]
    near = [*nearest(flag, own, 1), *settings]
    closest = sorted(near, key=lambda match: -difflib.SequenceMatcher(None, flag, match).ratio())[:1]
    unknown(f"{title} has no option", flag, exact or closest, f"; see {title} --help.")


def _take(flag: str, hint: Any, waiting: list[str]) -> Any:
    """Take the value of a setting from the words that follow it."""
    values = list(takewhile(lambda word: not _is_option(word), waiting))
    count = 1
    if typing.get_origin(hint) is tuple and not (values and "," in values[0]):
        items = typing.get_args(hint)
        count = max(1, len(values)) if items[-1] is Ellipsis else len(items)
    if len(values) < count:
        needed = "true or false" if hint is bool else "a value" if count < 2 else f"{count} values"
        raise UsageError(f"{flag} needs {needed}.")
    del waiting[:count]
    return values[:count] if count > 1 else values[0]


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-" and not re.fullmatch(r"-?[\d.][\d._]*(e[+-]?\d+)?", word, re.I)

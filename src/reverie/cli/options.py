"""How the arguments of a command are read.

A command is a dataclass: fields without a default, and those marked `tyro.conf.Positional`, are positional, the others
are options. tyro parses these and writes the help. A command may also take every setting of the configuration by its
path (`--world-model.kl.scale 0.1`, `--steps 2e4`). Those are taken out first and go through `Config.override`, so that
all of them are checked together, and the same names, texts and messages hold here and in Python.
"""

import difflib
import inspect
import re
import shlex
import typing
from collections.abc import Callable, Iterable
from dataclasses import MISSING, asdict, field, fields, make_dataclass
from typing import Annotated, Any, NamedTuple, NoReturn, TypeVar

import tyro
from rich.console import Console
from rich.text import Text

from reverie.config import (
    FIELD_TYPES,
    SHORT,
    TRUTH,
    Config,
    any_of,
    did_you_mean,
    nearest,
    nearest_settings,
    option,
    renamed,
    resolve,
)
from reverie.errors import ConfigError, ReverieError

Command = TypeVar("Command")

_STYLE = (tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff)


class Base(NamedTuple):
    """The configuration that a command's settings change."""

    config: Config
    origin: str
    """Its name, such as "preset atari", and why it is this one."""


class UsageError(ReverieError):
    """The command line itself is wrong: an unknown command or option. Exit status 2."""


def parse(
    name: str, command: type[Command], argv: list[str], base: Callable[[list[str]], Base] | None = None
) -> tuple[Command, dict[str, Any]]:
    """Read a command's arguments.

    Args:
        name: as typed, for example `bench train-step`.
        command: dataclass of its arguments.
        argv: what was typed after the name.
        base: given by commands that take settings: the configuration that they change, found from the other
            arguments. It is called when help is wanted.

    Returns:
        The command, and the settings by path, as text.

    Raises:
        UsageError: if an option is unknown or has no value.
        SystemExit: after help (0), or if tyro finds an argument missing or of the wrong type (2).
    """
    hints = typing.get_type_hints(command, include_extras=True)
    members = fields(command)  # type: ignore[arg-type]
    own = {
        f"--{f.name.replace('_', '-')}": hints[f.name] is not bool
        for f in members
        if not _is_positional(f, hints[f.name])
    }
    rest, settings = _split(name, argv, own, len(members) - len(own), takes_settings=base is not None)
    if {"-h", "--help"} & set(rest):
        rest = [argument for argument in rest if argument not in ("-h", "--help")]
        found = base(rest) if base else None
        _help(name, command, found and found._replace(config=found.config.override(**settings)))
    return tyro.cli(command, prog=f"reverie {name}", args=rest, config=_STYLE), settings


def given(argv: list[str], name: str) -> str | None:
    """The value of one option, before the others are looked at."""
    for index, argument in enumerate(argv):
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
        if argument == name and index + 1 < len(argv):
            return argv[index + 1]
    return None


def typed(name: str, argv: list[str]) -> str:
    """The command line as a shell takes it."""
    return shlex.join(["reverie", name, *argv])


def unknown(what: str, name: str, near: list[str], otherwise: str) -> NoReturn:
    """Refuse a name with the nearest valid ones, or else with `otherwise` as the end of the sentence.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{what} '{name}'{did_you_mean(near) if near else otherwise}")


def console(stderr: bool = False) -> Console:
    """Where commands print. Lines are only wrapped on a terminal, so that what is piped stays whole."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=max(found.width, 160))


def say_error(message: str) -> None:
    """One line on standard error; what others wrote, such as an environment's own errors, may hold several."""
    console(stderr=True).print(Text.assemble(("error: ", "bold red"), " ".join(message.split())), soft_wrap=True)


def _is_positional(one: Any, hint: Any) -> bool:
    is_required = one.default is MISSING and one.default_factory is MISSING
    return is_required or tyro.conf.Positional in typing.get_args(hint)


def _split(
    name: str, argv: list[str], own: dict[str, bool], positional: int, takes_settings: bool
) -> tuple[list[str], dict[str, Any]]:
    """Take the settings out of the arguments; what is left is for tyro.

    Args:
        name: of the command.
        argv: its arguments.
        own: the command's options, and whether they take a value.
        positional: how many arguments it takes that are not options.
        takes_settings: whether there may be settings.
    """
    hints = dict(FIELD_TYPES)
    rest: list[str] = []
    settings: dict[str, Any] = {}
    followed: dict[str, str] = {}  # Switches that a word follows.
    waiting = list(argv)
    while waiting:
        argument = waiting.pop(0)
        flag, equals, value = argument.partition("=")
        plain = flag.replace("_", "-")
        if not argument.startswith("-") or argument == "-" or plain in (*own, "-h", "--help") or _is_number(argument):
            rest.append(argument)
            continue
        path = _setting(name, flag, own, hints, takes_settings)
        if path in settings:
            raise UsageError(f"{flag} is given twice.")
        left = len(waiting)
        settings[path] = value if equals else _take(flag, hints[path], waiting)
        if not equals and len(waiting) == left and _until_option(waiting[:1]):
            followed[path] = waiting[0]
    # A word that the command has no use for was meant as the value of the switch before it.
    for path, word in followed.items():
        if len(_words(rest, own)) > positional:
            settings[path] = word
            rest.remove(word)
    return rest, settings


def _words(arguments: list[str], own: dict[str, bool]) -> list[str]:
    """Arguments that are neither options nor the values of options."""
    words, is_value = [], False
    for argument in arguments:
        if argument.startswith("-") and not _is_number(argument):
            is_value = own.get(argument.replace("_", "-"), False)
        elif is_value:
            is_value = False
        else:
            words.append(argument)
    return words


def _setting(name: str, flag: str, own: Iterable[str], hints: dict[str, Any], takes_settings: bool) -> str:
    """Path of the setting that an option names."""
    try:
        path = resolve(flag.removeprefix("--")) if takes_settings and flag.startswith("--") else ""
    except ConfigError:
        path = ""
    if path in hints:
        return path
    if path:
        members = [option(member) for member in hints if member.startswith(f"{path}.")]
        raise UsageError(f"{flag} is a group of settings; set one of them, such as {members[0]}.")
    if takes_settings and (present := renamed(flag.lstrip("-"))):
        now = any_of([option(path) for path in present])
        raise UsageError(f"reverie {name} has no option '{flag}'. It is now {now}.")
    settings = [option(near) for near in nearest_settings(flag.lstrip("-"))] if takes_settings else []
    # Several settings may end in just these words: then all of them are worth naming.
    word = flag.lstrip("-").replace("_", "-")
    exact = [near for near in settings if near.endswith(f".{word}")]
    near = [*nearest(flag, own, 1), *settings]
    closest = sorted(near, key=lambda match: -difflib.SequenceMatcher(None, flag, match).ratio())[:1]
    unknown(f"reverie {name} has no option", flag, exact or closest, f"; see reverie {name} --help.")


def _take(flag: str, hint: Any, waiting: list[str]) -> Any:
    """The value of a setting from the arguments that follow it."""
    values = _until_option(waiting)
    if hint is bool:
        # A bare flag switches on.
        count = 1 if values and values[0].lower() in TRUTH else 0
        return waiting.pop(0) if count else "true"
    if typing.get_origin(hint) is tuple and not (values and "," in values[0]):
        items = typing.get_args(hint)
        count = len(values) if items[-1] is Ellipsis else len(items)
    else:
        count = 1
    if len(values) < max(count, 1):
        raise UsageError(f"{flag} needs {'a value' if count < 2 else f'{count} values'}.")
    taken = [waiting.pop(0) for _ in range(count)]
    return taken[0] if len(taken) == 1 else taken


def _until_option(arguments: Iterable[str]) -> list[str]:
    values = []
    for argument in arguments:
        if argument.startswith("-") and not _is_number(argument):
            break
        values.append(argument)
    return values


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[\d.][\d._]*(e[+-]?\d+)?", text, re.IGNORECASE) is not None


def _help(name: str, command: type, base: Base | None) -> NoReturn:
    """Print a command's help; with all settings and their values, where it takes settings."""
    shown = command
    if base is not None:
        config = base.config
        parts = {part.name: getattr(config, part.name) for part in fields(config)}
        own = {f.name for f in fields(command)}
        parts["env"] = _without(config.env, {"name"} if "environment" in own else set())
        parts[SHORT] = _without(config.training, own)
        members = [
            (part, _part_type(part, type(value)), field(default=value))
            for part, value in parts.items()
        ]  # fmt: skip
        shown = make_dataclass(command.__name__, members, bases=(command,), frozen=True)
        shown.__doc__ = f"{inspect.getdoc(command)}\n\nDefaults below: {base.origin}"
    tyro.cli(shown, prog=f"reverie {name}", args=["--help"], config=_STYLE)
    raise SystemExit(0)


def _without(part: Any, hidden: set[str]) -> Any:
    """A part of the configuration that does not show these of its settings."""
    hints = typing.get_type_hints(type(part))
    names = [f.name for f in fields(part) if f.name in hidden]
    members = [(name, Annotated[hints[name], tyro.conf.Suppress], getattr(part, name)) for name in names]
    kind = make_dataclass(type(part).__name__, members, bases=(type(part),), frozen=True)
    kind.__doc__ = type(part).__doc__
    return kind(**asdict(part))


def _part_type(part: str, kind: type) -> Any:
    """A part of the configuration as tyro shows it: booleans take a value, and `training` has no prefix."""
    prefix = "" if part == SHORT else part
    return Annotated[kind, tyro.conf.FlagConversionOff, tyro.conf.arg(name=prefix)]

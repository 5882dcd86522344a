"""Parser of the command line.

A command is a dataclass of its arguments with a method `__call__`. Fields without a default, and those marked
`tyro.conf.Positional`, are positional, the others are options; tyro reads them and writes the help. A `SettingsCommand`
takes every setting of the configuration, too, by its path (`--world-model.kl.scale 0.1`, `--steps 2e4`). Those are
taken out first and go through `Config.override`, so that the same names, values and messages hold here and in Python.
"""

import contextlib
import inspect
import io
import pkgutil
import re
import shlex
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, make_dataclass
from itertools import takewhile
from typing import Annotated, Any, NamedTuple

import tyro
from docstring_parser import parse_from_object
from tyro.extras import SubcommandApp

from reverie.cli.console import UsageError
from reverie.config import PATHS, Config, did_you_mean, flatten, nearest, option, preset, resolve
from reverie.errors import ConfigError

_HELP = ("-h", "--help")
_STYLE = (
    tyro.conf.PositionalRequiredArgs,
    tyro.conf.PositionalMetavarFromFieldName,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.DisallowNone,
)
_ORDER = ("training", "env", "replay", "behavior", "exploration", "world_model", "ray")
"""Groups of settings in the help, those that most users change first."""


class Base(NamedTuple):
    """The configuration that a command's settings change."""

    config: Config
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


def of_preset(name: str) -> Base:
    """Return the configuration of a preset."""
    return Base(preset(name), name.replace("_", "-"))


def parse(commands: Mapping[str, str], argv: Sequence[str]) -> Callable[[], None]:
    """Return the command of a command line.

    Args:
        commands: `module:Class` in `reverie.cli` of each command, by its name of one or two words.
        argv: what follows `reverie`, at least one word.

    Raises:
        UsageError: if the command line is wrong.
        SystemExit: after help.
    """
    name = next((name for name in commands if name.split() == [*argv[: len(name.split())]]), None)
    if name is None:
        members = [name for name in commands if name.split()[0] == argv[0]]
        if set(argv) & {*_HELP}:
            _print_overview({name: commands[name] for name in members or commands})
        if members == [] or len(argv) > 1:
            typed, known = " ".join(argv[: 2 if members else 1]), members or commands
            raise UsageError(f"There is no command '{typed}'{did_you_mean(typed, known, 'the commands are')}")
        raise UsageError(f"The command is not complete. Type one of reverie {', reverie '.join(members)}.")
    title, words = f"reverie {name}", list(argv[len(name.split()) :])
    found = pkgutil.resolve_name(f"reverie.cli.{commands[name]}")
    takes_settings = issubclass(found, SettingsCommand)
    arguments, settings = _split(title, words, _own_options(found), PATHS if takes_settings else ())
    asks_help = not set(_HELP).isdisjoint(arguments)
    if asks_help and not takes_settings:
        tyro.cli(found, prog=title, args=["--help"], config=_STYLE)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            given = [word for word in arguments if word not in _HELP]
            command: Callable[[], None] = tyro.cli(found, prog=title, args=given, config=_STYLE)
    except SystemExit:
        # The message is in tyro's box between title and first rule.
        text = " ".join(re.split("[─-]{4,}", printed.getvalue())[1].strip("╮").replace("│", " ").split())
        text = re.sub(r"Missing from .*?: (\S+).*", r"\1 is missing", text).removesuffix(".")
        raise UsageError(f"{text}. Type {title} --help.") from None
    if isinstance(command, SettingsCommand):
        command.settings.update(settings)
        command.argv.extend(argv)
        if asks_help:
            tyro.cli(_with_settings(command), prog=title, args=["--help"], config=_STYLE)
    return command


def _print_overview(commands: Mapping[str, str]) -> None:
    app = SubcommandApp()
    for name, target in commands.items():
        summary = pkgutil.resolve_name(f"reverie.cli.{target}").__doc__.partition("\n")[0]
        app.command(name=name, help=summary)(lambda: None)
    start = "Start with: reverie demo, or reverie train ALE/Pong-v5 --preset atari-small."
    app.cli(prog="reverie", description=f"DreamerV2 for PyTorch. {start}", args=["--help"])


def _own_options(kind: type) -> list[str]:
    hints = typing.get_type_hints(kind, include_extras=True)
    own = [one.name for one in fields(kind) if one.init and one.default is not MISSING]
    return [
        f"--{name.rstrip('_').replace('_', '-')}"
        for name in own
        if tyro.conf.Positional not in typing.get_args(hints[name])
    ]


def _split(
    title: str, words: list[str], own: Sequence[str], known: Sequence[str]
) -> tuple[list[str], dict[str, str | list[str]]]:
    """Separate the settings from the words that tyro reads."""
    rest: list[str] = []
    settings: dict[str, str | list[str]] = {}
    default = flatten(Config())
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if not _is_option(word) or flag.replace("_", "-") in own or flag in _HELP:
            rest.append(word)
            continue
        path = _setting(title, flag, own, known)
        if path in settings:
            raise UsageError(f"{flag} is given twice.")
        values = [value] if equals else list(takewhile(lambda word: not _is_option(word), words))
        if not values:
            raise UsageError(f"{flag} needs {'true or false' if isinstance(default[path], bool) else 'a value'}.")
        is_list = not equals and isinstance(default[path], tuple) and "," not in values[0]
        settings[path] = values if is_list else values[0]
        del words[: 0 if equals else len(values) if is_list else 1]
    return rest, settings


def _setting(title: str, flag: str, own: Sequence[str], known: Sequence[str]) -> str:
    """Return the path of the setting that an option names."""
    name = "env.name" if flag == "--env" else flag.removeprefix("--")
    with contextlib.suppress(ConfigError):
        if (path := resolve(name, known)) in known:
            return path
    # Several settings may end in just these words. Then all of them are named.
    exact = [option(path) for path in known if path.endswith(f".{name.replace('-', '_')}")][:3]
    near = exact or nearest(flag, [*own, *map(option, known)], 1)
    ending = f"; did you mean {' or '.join(near)}?" if near else f"; see {title} --help."
    raise UsageError(f"{title} has no option '{flag}'{ending}")


def _is_option(word: str) -> bool:
    return re.match(r"-[^\d.]", word) is not None  # not the numbers -1 and -.5


def _with_settings(command: SettingsCommand) -> type:
    """Return the class of a command that has the settings as further options, for its help."""
    kind, config = type(command), command.configured
    own = {one.name for one in fields(kind)}  # hide settings of the same name
    members = []
    for group in _ORDER:
        value = _documented(getattr(config, group), own if group == "training" else ())
        style = tyro.conf.arg(name="" if group == "training" else group)
        members.append((f"{group}_group", Annotated[type(value), tyro.conf.FlagConversionOff, style], value))
    shown = make_dataclass(kind.__name__, members, bases=(kind,), frozen=True)
    origin = command.base().preset
    defaults = f"those of the preset {origin}" if origin else "the given configuration's"
    shown.__doc__ = f"{inspect.getdoc(kind)}\n\nThe defaults below are {defaults}."
    return shown


def _documented(group: Any, hidden: Collection[str] = ()) -> Any:
    """Return a copy of a group whose texts have no line breaks; tyro would keep those of the source."""
    parents = [kind for kind in reversed(type(group).__mro__) if is_dataclass(kind)]
    texts = {entry.arg_name: entry.description for kind in parents for entry in parse_from_object(kind).params}
    members: list[tuple[str, Any, Any]] = []
    for name, hint in typing.get_type_hints(type(group)).items():
        value = getattr(group, name)
        if is_dataclass(value):
            value = _documented(value)
            hint = type(value)
        if name not in hidden:
            text = tyro.conf.arg(help=" ".join((texts.get(name) or "").split()) or None)
            members.append((name, Annotated[hint, text], field(default=value)))
    return make_dataclass(type(group).__name__, members, frozen=True, namespace={"__doc__": type(group).__doc__})()

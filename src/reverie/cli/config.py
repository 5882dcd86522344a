"""`reverie config`: print a preset's configuration."""

import json
from dataclasses import dataclass

from rich.text import Text

from reverie import config_io
from reverie.cli.options import Base, console, parse
from reverie.cli.train import show
from reverie.config import Config
from reverie.presets import preset as named_preset


@dataclass(frozen=True)
class ShowConfig:
    """Print a preset's resolved configuration.

    Settings may follow, as for reverie train, to see what they make of it.
    """

    preset: str
    """One of those that reverie presets lists."""
    json: bool = False
    """As JSON, the form in which runs store it."""


def run(argv: list[str]) -> None:
    """Print."""
    command, settings = parse("config", ShowConfig, argv, _base_for_help)
    config = config_io.set_fields(named_preset(command.preset), settings)
    if command.json:
        print(json.dumps(config_io.to_dict(config), indent=2))
        return
    out = console()
    changed = {path: before for path, before, _ in config_io.diff(config, Config())}
    groups: dict[str, list[Text]] = {}
    for path, value in config_io.flatten(config).items():
        owner, leaf = path.rsplit(".", 1)
        line = Text(f"  {leaf:<24} {show(value)}")
        if path in changed:
            line.append(f"   (default: {show(changed[path])})", "dim")
        groups.setdefault(owner, []).append(line)
    for owner, lines in groups.items():
        out.print(Text(owner, "bold"))
        for line in lines:
            out.print(line)


def _base_for_help(argv: list[str]) -> Base:
    names = [argument for argument in argv if not argument.startswith("-")]
    return Base(named_preset(names[0]), f"preset {names[0]}.") if names else Base(Config(), "those of the release.")

"""`reverie config`: print a preset's configuration."""

import json
from dataclasses import dataclass

from reverie.cli.options import Base, parse
from reverie.cli.train import show
from reverie.config import PRESETS, Config, diff, preset, to_dict, to_toml


@dataclass(frozen=True)
class ShowConfig:
    """Print a preset's resolved configuration as TOML, for reverie train --config FILE.

    Settings may follow, as for reverie train. A comment has the default of each setting that differs from it.
    """

    preset: str
    """One of those that reverie presets lists."""
    json: bool = False
    """As JSON."""


def run(argv: list[str]) -> None:
    """Print."""
    command, settings = parse("config", ShowConfig, argv, _base_for_help)
    config = preset(command.preset).override(**settings)
    if command.json:
        print(json.dumps(to_dict(config), indent=2))
        return
    name = command.preset.replace("_", "-")
    print(f"# {name}: {PRESETS[name].description}\n")
    print(to_toml(config, {path: f"default: {show(default)}" for path, default, _ in diff(config, Config())}), end="")


def _base_for_help(argv: list[str]) -> Base:
    names = [argument for argument in argv if not argument.startswith("-")]
    return Base(preset(names[0]), f"preset {names[0]}.") if names else Base(Config(), "those of the release.")

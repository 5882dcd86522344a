"""`reverie config`: print the configuration of a preset, a run or a file."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from reverie.cli.console import UsageError
from reverie.cli.parser import Base, SettingsCommand, of_preset
from reverie.config import PRESETS, Config, as_text, diff, load_config, to_dict, to_toml


@dataclass(frozen=True)
class ShowConfig(SettingsCommand):
    """Print a resolved configuration as TOML, for reverie train --config FILE.

    Settings may follow, as for reverie train. A comment has the default of each setting that differs from it.
    """

    source: tyro.conf.Positional[str | None] = None
    """A preset (see reverie list presets), the folder of a run, or a TOML file."""
    json: bool = False
    """Print JSON."""

    def __call__(self) -> None:
        if self.source is None:
            raise UsageError("SOURCE is missing. Type reverie config --help.")
        config, name = self.configured, self.source.replace("_", "-")
        if self.json:
            print(json.dumps(to_dict(config), indent=2))
            return
        print(f"# {name}: {PRESETS[name].description}\n" if name in PRESETS else f"# {self.source}\n")
        comments = {path: f"default: {as_text(default)}" for path, default, _ in diff(config, Config())}
        print(to_toml(config, comments), end="")

    def base(self) -> Base:
        """Return the configuration that is printed."""
        if self.source is None:
            return Base(Config())
        path = Path(self.source)
        if not path.exists():
            return of_preset(self.source)

        from reverie.runs.layout import CONFIG

        return Base(load_config(path / CONFIG if path.is_dir() else path))

"""Configuration files, and the presets among them.

A file is TOML: settings by group, and at the top the preset that they change, `base = "atari"`. Without a base they
change the defaults. `presets/` has the files of the presets; a run folder's `config.toml` is such a file, too.
"""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.config.names import did_you_mean, nearest
from reverie.config.schema import Config
from reverie.config.settings import from_dict
from reverie.errors import ConfigError
from reverie.specs import EnvSpec

NAMES = (
    "atari",
    "atari-paper",
    "article",
    "dreamer-v1",
    "atari-small",
    "atari-laptop",
    "minatar",
    "crafter",
    "dmc-vision",
    "dmc-proprio",
    "vector",
    "demo",
    "debug",
)
"""Presets in the order in which they are listed."""

_FOLDER = Path(__file__).with_name("presets")


@dataclass(frozen=True)
class Preset:
    """Named configuration."""

    name: str
    description: str
    """One line."""
    config: Config


def preset(name: str) -> Config:
    """Return the configuration of a preset.

    Raises:
        ConfigError: if there is none of that name; the nearest ones are given.
    """
    found = PRESETS.get(name.replace("_", "-"))
    if found is None:
        near = nearest(name, PRESETS, 1)
        ending = did_you_mean(near) if near else f"; the presets are {', '.join(PRESETS)}."
        raise ConfigError(f"There is no preset '{name}'{ending}")
    return found.config


def load_config(path: str | os.PathLike[str]) -> Config:
    """Return the configuration of a TOML file: its settings on top of its `base`, or of the defaults.

    Raises:
        ConfigError: if the file is missing, is not TOML, or has an unknown or unfitting setting.
    """
    return _load(Path(path)).config


def read_toml(path: Path) -> dict[str, Any]:
    """Return the contents of a TOML file.

    Raises:
        ConfigError: if it is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The configuration {path} is not valid TOML: {error}.") from None


def default_preset(env_name: str, spec: EnvSpec | None = None) -> str:
    """Return the name of the preset for an environment when the user gives none.

    The name of the environment decides where it can: `ALE/` is atari, `MinAtar/` is minatar, Crafter is crafter.
    Otherwise its spaces do: without images it is vector; images are dmc-vision with continuous actions and crafter with
    discrete ones. Without a `spec` every other environment is vector.
    """
    if env_name.startswith("ALE/"):
        return "atari"
    if env_name.startswith("MinAtar/"):
        return "minatar"
    if "crafter" in env_name.lower():
        return "crafter"
    if spec is None or not any(observation.is_image for observation in spec.observations.values()):
        return "vector"
    return "dmc-vision" if spec.action.kind == "continuous" else "crafter"


def _load(path: Path) -> Preset:
    data = read_toml(path)
    try:
        description, base = data.pop("description", ""), data.pop("base", None)
        config = from_dict(data, None if base is None else preset(str(base)))
    except ConfigError as error:
        raise ConfigError(f"In the configuration {path}: {error}") from None
    return Preset(path.stem, description, config)


PRESETS: dict[str, Preset] = {}
"""Presets by name, in the order of `NAMES`; a base comes before the presets that change it."""
for _name in NAMES:
    PRESETS[_name] = _load(_FOLDER / f"{_name}.toml")

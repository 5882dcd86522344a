"""Configuration files, and the presets among them.

A file is TOML: settings by group, and at the top the preset that they change, `base = "atari"`. Without a base they
change the defaults. `presets/` has the files of the presets; a run folder's `config.toml` is such a file, too.
"""

import functools
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reverie.config.names import did_you_mean
from reverie.config.schema import Config, EnvConfig, from_dict
from reverie.errors import ConfigError
from reverie.specs import EnvSpec

_FOLDER = Path(__file__).with_name("presets")
_NAMES = sorted(path.stem for path in _FOLDER.glob("*.toml"))
_OBSERVED = ("env.observations", "env.image_keys", "env.vector_keys")


@dataclass(frozen=True)
class Preset:
    """Named configuration."""

    name: str
    description: str
    """One line."""
    config: Config


def preset(name: str) -> Config:
    """Return the configuration of a preset; raise ConfigError, with the nearest name, if there is none."""
    plain = name.replace("_", "-")
    if plain not in _NAMES:
        raise ConfigError(f"There is no preset '{name}'{did_you_mean(name, _NAMES, 'the presets are')}")
    return _named(plain).config


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


def default_preset(env_name: str, spec_of: Callable[[EnvConfig], EnvSpec], settings: Mapping[str, Any]) -> Preset:
    """Return the preset for an environment when the user names none.

    The name of the environment decides where it can: `ALE/` is atari, `MinAtar/` is minatar, Crafter is crafter, and
    `dmc/` is dmc-proprio, or dmc-vision if pictures are observed. Otherwise its spaces do, for which `spec_of` is
    called: without images it is vector; images are dmc-vision with continuous actions and crafter with discrete ones.
    With `env.observations` both, the agent reads images and vectors, whatever the preset reads.

    Args:
        env_name: the name.
        spec_of: returns the spec of an environment.
        settings: the given settings by path.

    Raises:
        ConfigError: if a setting of the observations does not fit.
    """
    given = {path: settings[path] for path in _OBSERVED if path in settings}
    env = Config().override(**given, **{"env.name": env_name}).env
    found = PRESETS[_default_name(env, spec_of)]
    if env.observations != "both":
        return found
    kinds = {f"world_model.{network}.kinds": "all" for network in ("encoder", "decoder")}
    return replace(found, config=found.config.override(**kinds))


def _default_name(env: EnvConfig, spec_of: Callable[[EnvConfig], EnvSpec]) -> str:
    if env.name.startswith("ALE/"):
        return "atari"
    if env.name.startswith("MinAtar/"):
        return "minatar"
    if env.name.startswith("dmc/"):
        return "dmc-vision" if env.observations in ("pixels", "both") else "dmc-proprio"
    if "crafter" in env.name.lower():
        return "crafter"
    spec = spec_of(env)
    if not any(observation.is_image for observation in spec.observations.values()):
        return "vector"
    return "dmc-vision" if spec.action.kind == "continuous" else "crafter"


@functools.cache
def _named(name: str) -> Preset:
    return _load(_FOLDER / f"{name}.toml")


def _load(path: Path) -> Preset:
    data = read_toml(path)
    try:
        description, base = data.pop("description", ""), data.pop("base", None)
        config = from_dict(data, None if base is None else preset(str(base)))
    except ConfigError as error:
        raise ConfigError(f"In the configuration {path}: {error}") from None
    return Preset(path.stem, description, config)


PRESETS = {name: _named(name) for name in _NAMES}
"""Presets by name."""

"""Environments that can be named, and what to install for more."""

import difflib
import importlib.util
import pkgutil
import re
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import gymnasium
from gymnasium.envs.registration import EnvSpec as GymnasiumSpec

from reverie.envs.atari import ENTRY_POINT
from reverie.envs.headless import let_pyglet_draw
from reverie.errors import EnvError


@dataclass(frozen=True)
class EnvSuite:
    """Environments of one package."""

    title: str
    entry_point: str
    """Beginning of the entry points of its ids."""
    requires: str = "gymnasium"
    """Module that must be importable."""
    install: str = ""
    """Command that installs it."""
    prefixes: tuple[str, ...] = ()
    """Beginnings of ids that Gymnasium does not know before `register`."""
    register: str = ""
    """Module whose import registers the ids, or `module:function`."""

    @property
    def is_installed(self) -> bool:
        """True if its environments can be created."""
        return importlib.util.find_spec(self.requires) is not None


SUITES = (
    EnvSuite("Atari", "ale_py", "ale_py", "pip install 'reverie[atari]'", ("ALE/",), "ale_py"),
    EnvSuite(
        "DeepMind Control",
        "reverie.envs.dmc",
        "dm_control",
        # Without labmaze, which has no wheel for Python 3.13.
        "pip install 'reverie[dmc]'" + (" && pip install --no-deps dm_control" if sys.version_info >= (3, 13) else ""),
        ("dmc/",),
        "reverie.envs.dmc:register",
    ),
    EnvSuite(
        "Crafter",
        "reverie.envs.crafter",
        "crafter",
        "pip install 'reverie[crafter]'",
        ("crafter/",),
        "reverie.envs.crafter:register",
    ),
    EnvSuite(
        "MinAtar", "minatar", "minatar", "pip install 'reverie[minatar]'", ("MinAtar/",), "minatar.gym:register_envs"
    ),
    EnvSuite("Classic control", "gymnasium.envs.classic_control"),
    EnvSuite("Toy text", "gymnasium.envs.toy_text"),
    EnvSuite("Box2D", "gymnasium.envs.box2d", "Box2D", "pip install swig 'gymnasium[box2d]'"),
    EnvSuite("MuJoCo", "gymnasium.envs.mujoco", "mujoco", "pip install 'gymnasium[mujoco]'"),
    EnvSuite(
        "MiniGrid", "minigrid", "minigrid", "pip install 'reverie[minigrid]'", ("MiniGrid-", "BabyAI-"), "minigrid"
    ),
    EnvSuite("ViZDoom", "vizdoom", "vizdoom", "pip install vizdoom", ("Vizdoom",), "vizdoom.gymnasium_wrapper"),
    EnvSuite("MiniWorld", "miniworld", "miniworld", "pip install miniworld", ("MiniWorld-",), "miniworld"),
    EnvSuite("highway-env", "highway_env", "highway_env", "pip install highway-env", ("highway-",), "highway_env"),
    EnvSuite(
        "Gymnasium-Robotics",
        "gymnasium_robotics",
        "gymnasium_robotics",
        "pip install gymnasium-robotics 'mujoco<3.4'",
        ("Fetch", "Hand", "AdroitHand", "PointMaze_", "AntMaze_", "FrankaKitchen-"),
        "gymnasium_robotics",
    ),
    EnvSuite("POPGym", "popgym", "popgym", "pip install popgym", ("popgym-",), "popgym"),
)


class EnvListing(NamedTuple):
    """Environments of one suite."""

    title: str
    ids: tuple[str, ...]
    install: str
    """Command that installs the suite; empty if it is installed."""


def list_envs() -> list[EnvListing]:
    """List the environments that can be named, by suite or package; the newest version of each."""
    _register_all()
    found: dict[str, list[str]] = {suite.title: [] for suite in SUITES}
    for spec in _newest():
        suite = _suite_of(spec)
        title = suite.title if suite is not None else re.split("[.:]", _entry_point(spec))[0]
        if title != "gymnasium":  # what is left there only says that it has moved
            found.setdefault(title, []).append(spec.id)
    install = {suite.title: suite.install for suite in SUITES if not suite.is_installed}
    return [EnvListing(title, tuple(sorted(ids)), install.get(title, "")) for title, ids in found.items()]


def find_spec(name: str) -> GymnasiumSpec:
    """Return the registration of a Gymnasium id, or raise an `EnvError` with the nearest ids, or what to install."""
    module, _, identifier = name.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        is_known = identifier in gymnasium.registry  # ids of the user may begin as those of a suite
        suite = next((suite for suite in SUITES if not is_known and identifier.startswith(suite.prefixes)), None)
        if suite is not None and suite.is_installed:
            _register(suite.register)
    except Exception as error:
        raise EnvError(
            f"{name}: its module cannot be imported ({error}); install it, or set PYTHONPATH to its folder."
        ) from error
    if suite is not None and not suite.is_installed:
        raise EnvError(f"{name} needs a package that is not installed; type: {suite.install}")
    if identifier not in gymnasium.registry:
        _register_all()  # the ids of some suites have no beginning in common
    with suppress(gymnasium.error.Error), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about versions
        if not _is_old(spec := gymnasium.spec(identifier)):
            return spec
    near = _nearest(name)
    advice = f"did you mean {' or '.join(near)}?" if near else "`reverie list envs` lists what there is."
    raise EnvError(f"There is no environment '{name}'; {advice} Write ids of your own packages as module:id.")


def is_atari(name: str) -> bool:
    """Return whether a name is the id of an Atari game."""
    try:
        return bool(find_spec(name).entry_point == ENTRY_POINT)
    except EnvError:
        return False


def install_hint(spec: GymnasiumSpec) -> str:
    """Return the end of a message that says what a registered environment lacks; empty if that is nothing."""
    suite = _suite_of(spec)
    return f" Type: {suite.install}" if suite is not None and not suite.is_installed else ""


@cache
def _register(source: str) -> None:
    let_pyglet_draw()
    if callable(found := pkgutil.resolve_name(source)):
        found()


def _register_all() -> None:
    for suite in SUITES:
        with suppress(Exception):  # a broken package must not hide the others
            if suite.register and suite.is_installed:
                _register(suite.register)


def _entry_point(spec: GymnasiumSpec) -> str:
    entry = spec.entry_point
    return entry if isinstance(entry, str) else getattr(entry, "__module__", "?")


def _suite_of(spec: GymnasiumSpec) -> EnvSuite | None:
    return next((suite for suite in SUITES if _entry_point(spec).startswith(suite.entry_point)), None)


def _is_old(spec: GymnasiumSpec) -> bool:
    """Return whether it is Pong-v4 or the like, with a frame skip and stickiness of its own."""
    return spec.entry_point == ENTRY_POINT and spec.namespace != "ALE" and spec.version in (0, 4)


def _newest() -> list[GymnasiumSpec]:
    specs = sorted(gymnasium.registry.values(), key=lambda spec: spec.version or 0)
    return list({(spec.namespace, spec.name): spec for spec in specs if not _is_old(spec)}.values())


def _nearest(name: str) -> list[str]:
    """Return up to three ids whose bare name (no namespace, no version) is nearest."""

    def bare(text: str) -> str:
        return re.sub(r"(noframeskip|deterministic)?-?v?\d*$", "", text.lower().split(":")[-1].split("/")[-1])

    _register_all()
    ids = [spec.id for spec in _newest()]
    close = difflib.get_close_matches(bare(name), map(bare, ids), n=3)
    return sorted((id_ for id_ in ids if bare(id_) in close), key=lambda id_: close.index(bare(id_)))[:3]

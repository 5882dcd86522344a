"""Which environments there are, and what to install for more."""

import contextlib
import difflib
import importlib
import importlib.util
import re
import warnings
from dataclasses import dataclass
from functools import cache

import gymnasium
from gymnasium.envs.registration import EnvSpec as GymnasiumSpec

from reverie.envs.atari import ENTRY_POINT
from reverie.errors import EnvError


@dataclass(frozen=True)
class Family:
    """Environments that come from one place."""

    title: str
    modules: tuple[str, ...]
    """Where the entry points of the ids lie (a prefix)."""
    prefixes: tuple[str, ...]
    """What the ids start with, for families that are unknown to Gymnasium until they are imported."""
    requires: str | None
    """The module that must be importable; None if nothing more is needed."""
    install: str
    """What to type if it is not."""
    register: str | None = None
    """The module that registers the ids when it is imported."""


FAMILIES = (
    Family("Atari", ("ale_py",), ("ALE/",), "ale_py", "pip install 'reverie[atari]'", "ale_py"),
    Family("Classic control", ("gymnasium.envs.classic_control",), (), None, ""),
    Family("Toy text", ("gymnasium.envs.toy_text",), (), None, ""),
    Family("Box2D", ("gymnasium.envs.box2d",), (), "Box2D", "pip install swig 'gymnasium[box2d]'"),
    Family("MuJoCo", ("gymnasium.envs.mujoco",), (), "mujoco", "pip install 'gymnasium[mujoco]'"),
    Family("JAX", ("gymnasium.envs.phys2d", "gymnasium.envs.tabular"), (), "jax", "pip install 'gymnasium[jax]'"),
    Family("MiniGrid", ("minigrid",), ("MiniGrid-", "BabyAI-"), "minigrid", "pip install minigrid", "minigrid"),
    Family("MinAtar", ("minatar",), ("MinAtar/",), "minatar", "pip install 'reverie[minatar]'", "minatar.gym"),
    Family(
        "DeepMind Control",
        ("shimmy.dm_control",),
        ("dm_control/",),
        "shimmy",
        "pip install 'shimmy[dm-control]'",
        "shimmy",
    ),
)


@dataclass(frozen=True)
class EnvListing:
    """Environments of one family that this installation has, or what brings them."""

    title: str
    ids: tuple[str, ...]
    install: str
    """Empty if the family is installed."""


def list_envs() -> list[EnvListing]:
    """Every environment that can be named, by family; the newest version of each.

    Families that are not installed have no ids, or those that are known but not usable, and say what to install.
    """
    _register_all()
    by_family: dict[str, list[str]] = {family.title: [] for family in FAMILIES}
    others: dict[str, list[str]] = {}
    for spec in _newest().values():
        found = _family_of(spec)
        if found is not None:
            by_family[found.title].append(spec.id)
            continue
        home = spec.entry_point if isinstance(spec.entry_point, str) else getattr(spec.entry_point, "__module__", "?")
        package = re.split("[.:]", home)[0]
        if package != "gymnasium":  # what is left there only says that it has moved
            others.setdefault(package, []).append(spec.id)
    listings = [
        EnvListing(family.title, tuple(sorted(by_family[family.title])), "" if _installed(family) else family.install)
        for family in FAMILIES
    ]
    return listings + [EnvListing(title, tuple(sorted(ids)), "") for title, ids in sorted(others.items())]


def find_spec(name: str) -> GymnasiumSpec:
    """The registration of a Gymnasium id; ids of known packages are registered on the way.

    Raises:
        EnvError: if there is none, with the nearest ids, or what to install.
    """
    if not name:
        raise EnvError(
            "No environment was named; give a Gymnasium id, for example ALE/Pong-v5 (see: reverie list envs)."
        )
    module, _, identifier = name.rpartition(":")
    family = next((family for family in FAMILIES if identifier.startswith(family.prefixes)), None)
    if family is not None and not _installed(family):
        raise EnvError(f"{name} needs a package that is not installed; type: {family.install}")
    try:
        if family is not None:
            _register(family)
        if module:
            importlib.import_module(module)
    except Exception as error:
        missing = module or (family and family.requires)
        raise EnvError(
            f"{name}: the module '{missing}' cannot be imported ({error}); install it, or set PYTHONPATH to its folder."
        ) from error
    with contextlib.suppress(gymnasium.error.Error), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about versions
        return gymnasium.spec(identifier)
    _register_all()
    near = _nearest(name)
    advice = f"did you mean {' or '.join(near)}?" if near else "`reverie list envs` lists what there is."
    raise EnvError(
        f"There is no environment '{name}'; {advice} Ids of other packages are written module:id, so that the module "
        "is imported first."
    )


def is_atari(name: str) -> bool:
    """Return whether a name is the id of an Atari game."""
    try:
        return bool(find_spec(name).entry_point == ENTRY_POINT)
    except EnvError:
        return False


def install_hint(spec: GymnasiumSpec) -> str:
    """What to type for an environment that is registered but lacks a package; empty if nothing is known."""
    family = _family_of(spec)
    return family.install if family is not None and not _installed(family) else ""


def _installed(family: Family) -> bool:
    return family.requires is None or importlib.util.find_spec(family.requires) is not None


def _register(family: Family) -> None:
    """Register a family's ids if it is there; asked anew each time, since a package may be installed meanwhile."""
    if family.register is not None and _installed(family):
        _import(family.register)


@cache
def _import(registering: str) -> None:
    module = importlib.import_module(registering)
    if registering == "ale_py":
        gymnasium.register_envs(module)
    if registering == "minatar.gym":
        module.register_envs()


def _register_all() -> None:
    for family in FAMILIES:
        with contextlib.suppress(Exception):  # a broken package must not hide the others
            _register(family)


def _family_of(spec: GymnasiumSpec) -> Family | None:
    entry = spec.entry_point if isinstance(spec.entry_point, str) else ""
    return next((family for family in FAMILIES if entry.startswith(family.modules)), None)


def _newest() -> dict[str, GymnasiumSpec]:
    """The newest version of every id, without Atari's old ids (Pong-v4 and the like)."""
    newest: dict[str, GymnasiumSpec] = {}
    for spec in gymnasium.registry.values():
        if spec.entry_point == ENTRY_POINT and spec.namespace != "ALE":
            continue
        key = f"{spec.namespace}/{spec.name}"
        if key not in newest or (spec.version or 0) >= (newest[key].version or 0):
            newest[key] = spec
    return newest


def _nearest(name: str) -> list[str]:
    """Up to three ids whose bare name (no namespace, no version) is nearest."""

    def bare(text: str) -> str:
        return re.sub(r"(noframeskip|deterministic)?-?v?\d*$", "", text.lower().split(":")[-1].split("/")[-1])

    ids: dict[str, list[str]] = {}
    for spec in _newest().values():
        ids.setdefault(bare(spec.id), []).append(spec.id)
    close = difflib.get_close_matches(bare(name), ids, n=3, cutoff=0.6)
    return [identifier for match in close for identifier in ids[match]][:3]

"""Names of settings, and the nearest valid ones for a misspelt name.

A setting is named by its path, `world_model.kl.scale`; in the group `training` its bare name is enough, `steps`.
Hyphens and underscores mean the same. `known` is the list of all paths, `PATHS`.
"""

import difflib
from collections.abc import Collection, Iterable, Sequence

from reverie.errors import ConfigError


def resolve(name: str, known: Sequence[str]) -> str:
    """Return the path of a setting, or of a group such as `world_model.kl`, from a name that a user typed.

    Raises:
        ConfigError: if there is none; the message has the nearest names.
    """
    plain = name.replace("-", "_")
    for candidate in (plain, f"training.{plain}"):
        if candidate in known or candidate in groups(known):
            return candidate
    raise unknown_setting(name, known)


def unknown_setting(name: str, known: Sequence[str]) -> ConfigError:
    """Return the error for an unknown name, with the nearest ones: by its end, the whole path, or its last part."""
    plain = name.replace("-", "_")
    near = [path for path in known if path.endswith(f".{plain}")] or nearest(plain, [*known, *groups(known)], 1)
    if not near:
        leaves = [path.rpartition(".")[2] for path in known]
        leaf = nearest(plain.rpartition(".")[2], leaves, 1)
        near = [path for path, last in zip(known, leaves, strict=True) if last in leaf]
    return ConfigError(f"There is no setting '{name}'" + (f"; did you mean {' or '.join(near[:3])}?" if near else "."))


def groups(known: Iterable[str]) -> set[str]:
    """Return the paths of all groups of settings."""
    return {path[:i] for path in known for i, letter in enumerate(path) if letter == "."}


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Return the most similar of some names, best first; none if nothing is similar. Case does not count."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    return [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, count, 0.55)]


def did_you_mean(name: str, names: Collection[str], otherwise: str) -> str:
    """Return the end of a sentence about an unknown name: `; did you mean a?`, or else `; <otherwise> a, b, c.`."""
    near = nearest(name, names, 1)
    return f"; did you mean {near[0]}?" if near else f"; {otherwise} {', '.join(names)}."


def option(path: str) -> str:
    """Return the command-line option of a setting."""
    return "--" + path.removeprefix("training.").replace("_", "-")

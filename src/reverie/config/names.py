"""Names of settings: paths, their nearest relatives, and names from before a renaming.

A setting is named by its path, `world_model.kl.scale`; in the group `training` its bare name is enough, `steps`.
Hyphens and underscores mean the same. `known` is the list of all paths, see `settings.paths`.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

from reverie.errors import ConfigError

SHORT = "training"
"""Group whose settings are also known by their bare names."""

RENAMED = {
    "timeout": "step_timeout",
    "max_faults": "max_restarts_per_hour",
    "noops": "noop_max",
    "variables": "stoch",
    "kl.transition": "kl.prior_scale",
    "kl.entropy": "kl.posterior_entropy_scale",
    "scales": "loss_scales",
    "gradients": "head_gradients",
    "clip": "max_grad_norm",
    "decay": "weight_decay_on",
    "target_every": "target_update_interval",
    "target_fraction": "target_tau",
    "lambda": "return_lambda",
    "sync_every": "fsync_interval",
    "overlap": "async_collection",
    "max_skips": "max_nonfinite_updates",
}
"""Present names of renamed settings and groups; an error answers the old name by the present one."""


def resolve(name: str, known: Sequence[str]) -> str:
    """Return the path of a setting, or of a group such as `world_model.kl`, from a name that a user typed.

    Raises:
        ConfigError: if there is none; the message has the present name of a renamed setting, or the nearest names.
    """
    plain = name.replace("-", "_")
    for candidate in (plain, f"{SHORT}.{plain}"):
        if candidate in known or candidate in groups(known):
            return candidate
    raise unknown_setting(name, known)


def groups(known: Iterable[str]) -> set[str]:
    """Return the paths of all groups of settings."""
    return {path[:i] for path in known for i, letter in enumerate(path) if letter == "."}


def unknown_setting(name: str, known: Sequence[str]) -> ConfigError:
    """Return the error for an unknown name: with the present name if it was renamed, else with the nearest ones."""
    if present := renamed(name, known):
        return ConfigError(f"There is no setting '{name}'. It is now {any_of(present)}.")
    return ConfigError(f"There is no setting '{name}'{did_you_mean(nearest_settings(name, known))}")


def renamed(name: str, known: Sequence[str]) -> list[str]:
    """Return the paths that a renamed setting may have now; none if the name was never in use."""
    plain = present = name.replace("-", "_").rstrip("_")
    for old, new in RENAMED.items():
        present = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", new, present)
    if present == plain:
        return []
    return [path for path in (*known, *sorted(groups(known))) if f".{path}".endswith(f".{present}")]


def nearest_settings(name: str, known: Sequence[str]) -> list[str]:
    """Return paths that a misspelt name may mean, best first: by its group, its last part, or the whole path."""
    plain = name.replace("-", "_")
    group, _, leaf = plain.rpartition(".")
    siblings = [path for path in (*known, *groups(known)) if path.rpartition(".")[0] == group]
    if close := nearest(plain, siblings, 1):
        return close
    by_leaf: dict[str, list[str]] = {}
    for path in known:
        by_leaf.setdefault(path.rpartition(".")[2], []).append(path)
    if leaf in by_leaf:
        # The last part is right: of the places that have it, the most similar come first.
        return sorted(by_leaf[leaf], key=lambda path: -difflib.SequenceMatcher(None, plain, path).ratio())[:3]
    close = nearest(plain, [*known, *(path.removeprefix(f"{SHORT}.") for path in known)], 1)
    if not close:
        return [path for match in nearest(leaf, by_leaf, 1) for path in by_leaf[match][:3]]
    return [path if path in known else f"{SHORT}.{path}" for path in close]


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Return the most similar of some names, best first; none if nothing is similar. Case does not count."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    return [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, count, 0.55)]


def did_you_mean(names: Sequence[str]) -> str:
    """Return the end of a sentence: `; did you mean a, b or c?`, or a full stop if there are no names."""
    return f"; did you mean {any_of(names)}?" if names else "."


def any_of(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: `a, b or c`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def option(path: str) -> str:
    """Return the command-line option of a setting."""
    return "--" + path.removeprefix(f"{SHORT}.").replace("_", "-")

"""Example agents, which come with the package: `reverie play --example NAME`.

Each is a folder in `examples/`, as `reverie.save(agent, folder, weights_only=True)` writes it; `examples/README.md` has
their training commands and scores.
"""

from importlib.resources import files
from pathlib import Path

from reverie.config import did_you_mean
from reverie.errors import ReverieError
from reverie.runs.checkpoint import MANIFEST

PREFIX = "example:"
"""Begins the name of an example agent in an address of the studio."""


def example_names() -> list[str]:
    """Return the names of all example agents."""
    return sorted(path.parent.name for path in _folder().glob(f"*/{MANIFEST}"))


def example_path(name: str) -> Path:
    """Return the folder of an example agent, for `reverie.load`.

    Raises:
        ReverieError: if there is none of this name.
    """
    names = example_names()
    if name not in names:
        hint = did_you_mean(name, names, "the example agents are")
        raise ReverieError(f"There is no example agent {name!r}; nothing was loaded{hint}")
    return _folder() / name


def _folder() -> Path:
    return Path(str(files("reverie.studio"))) / "examples"

"""reverie: DreamerV2 for PyTorch.

agent = reverie.train("ALE/Pong-v5", preset="atari-small", logdir="runs/pong", steps=20_000)
agent = reverie.load("runs/pong")
action, state = agent.act(obs, state)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reverie.agent import Dreamer
    from reverie.config import Config
    from reverie.envs import make_env
    from reverie.presets import preset
    from reverie.training import load, train

__all__ = ["Config", "Dreamer", "load", "make_env", "preset", "train"]

_HOMES = {
    "Config": "reverie.config",
    "Dreamer": "reverie.agent",
    "load": "reverie.training",
    "make_env": "reverie.envs",
    "preset": "reverie.presets",
    "train": "reverie.training",
}


def __getattr__(name: str) -> Any:
    # Imported when first used: PyTorch takes seconds, and `reverie --help` needs none of it.
    if name not in _HOMES:
        raise AttributeError(f"module 'reverie' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

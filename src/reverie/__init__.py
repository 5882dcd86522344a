"""reverie: DreamerV2 for PyTorch.

agent = reverie.train("ALE/Pong-v5", preset="atari-small", logdir="runs/pong", steps=20_000)
agent = reverie.load("runs/pong")
policy = agent.policy()
action = policy(obs)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reverie.agents import load
    from reverie.agents import save_agent as save
    from reverie.config import Config
    from reverie.data.sequences import SequenceDataset
    from reverie.dream import Dream
    from reverie.dreamer import Dreamer
    from reverie.envs import make_env
    from reverie.policy import Policy
    from reverie.replay import ReplayBuffer
    from reverie.training import train
    from reverie.training.callbacks import Callback, Stop
    from reverie.training.evaluate_policy import evaluate_policy as evaluate

__all__ = [
    "Callback",
    "Config",
    "Dream",
    "Dreamer",
    "Policy",
    "ReplayBuffer",
    "SequenceDataset",
    "Stop",
    "evaluate",
    "load",
    "make_env",
    "preset",
    "save",
    "train",
]

_HOMES = {
    "Callback": ("reverie.training.callbacks", "Callback"),
    "Config": ("reverie.config", "Config"),
    "Dream": ("reverie.dream", "Dream"),
    "Dreamer": ("reverie.dreamer", "Dreamer"),
    "Policy": ("reverie.policy", "Policy"),
    "ReplayBuffer": ("reverie.replay", "ReplayBuffer"),
    "SequenceDataset": ("reverie.data.sequences", "SequenceDataset"),
    "Stop": ("reverie.training.callbacks", "Stop"),
    "evaluate": ("reverie.training.evaluate_policy", "evaluate_policy"),
    "load": ("reverie.agents", "load"),
    "make_env": ("reverie.envs", "make_env"),
    "preset": ("reverie.config", "preset"),
    "save": ("reverie.agents", "save_agent"),
    "train": ("reverie.training", "train"),
}
"""Module and name of each public object."""


def __getattr__(name: str) -> Any:
    # Imported when first used: PyTorch takes seconds, and `reverie --help` needs none of it.
    if name not in _HOMES:
        raise AttributeError(f"module 'reverie' has no attribute '{name}'")
    import importlib

    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

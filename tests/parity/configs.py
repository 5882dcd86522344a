"""The configurations that the reference numbers were made with: presets in tiny sizes."""

from typing import Any

from reverie.config import Config, preset
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from tests.parity.compare import DEVICE

DISCRETE = ActionSpec("discrete", (5,))
CONTINUOUS = ActionSpec("continuous", (3,))
IMAGE = ArraySpec((64, 64, 1), "uint8")

TINY: dict[str, Any] = {
    "world_model.rssm.stoch": 4,
    "world_model.rssm.classes": 4,
    "world_model.rssm.deter": 16,
    "world_model.rssm.hidden": 16,
    "world_model.encoder.cnn_depth": 2,
    "world_model.decoder.cnn_depth": 2,
    **{
        f"{head}.{field}": value
        for head in ("world_model.reward_head", "world_model.discount_head", "behavior.actor", "behavior.critic")
        for field, value in (("layers", 2), ("units", 16))
    },
    "behavior.horizon": 5,
    "training.device": DEVICE,
    "training.compile": "off",
}

# Name in the reference's files -> our preset.
PRESETS = {"atari": "atari", "dmc": "dmc-vision", "crafter": "crafter"}


def config(name: str, **settings: Any) -> Config:
    """Tiny version of a preset; further settings by path, with `__` for the dots."""
    paths = {path.replace("__", "."): value for path, value in settings.items()}
    return preset(PRESETS[name]).override(**{**TINY, **paths})


def env_spec(action: ActionSpec) -> EnvSpec:
    """A grayscale image and the given actions."""
    return EnvSpec({"image": IMAGE}, action)


ACTIONS = {"atari": DISCRETE, "dmc": CONTINUOUS, "crafter": DISCRETE}

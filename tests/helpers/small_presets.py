"""Presets with small networks, and an environment that each is made for."""

from reverie.config import Config, flatten
from reverie.specs import ArraySpec, EnvSpec
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, DICT, DISCRETE

VECTOR = {"observation": ArraySpec((4,), "float32")}
ATARI = EnvSpec(ATARI_IMAGE, DISCRETE)
SPECS = {
    "dreamer-v1": EnvSpec(DICT, CONTINUOUS),
    "dmc-vision": EnvSpec(DICT, CONTINUOUS),
    "dmc-proprio": EnvSpec(DICT, CONTINUOUS),
    "vector": EnvSpec(VECTOR, DISCRETE),
}
SIZES = ("units", "cnn_depth", "deter", "hidden", "stoch", "classes")
SHRINK = 20
"""All sizes are divided by this, so that those that differ still do."""
STRONG = 30.0
"""Factor on the weights of the KL's two heads: a KL above every preset's free nats."""


def spec_of(preset: str) -> EnvSpec:
    """Return the observations and actions that a preset is tested with."""
    return SPECS.get(preset.removesuffix("-small"), ATARI)


def shrunk(config: Config) -> Config:
    """Return the same agent with small networks and rollouts, in float32."""
    sizes = {path: max(2, value // SHRINK) for path, value in flatten(config).items() if path.endswith(SIZES)}
    plain = {"training.precision": "fp32", "training.compile": "off", "training.device": "cpu", "behavior.horizon": 3}
    return config.override(**sizes, **plain)

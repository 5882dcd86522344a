"""Typical environments of the presets, and random steps of them."""

import numpy as np

from reverie.config import Config
from reverie.specs import ActionSpec, Array, ArraySpec, EnvSpec

_RGB = {"image": ArraySpec((64, 64, 3), "uint8")}
_SPECS = {
    "crafter": EnvSpec(_RGB, ActionSpec("discrete", (17,))),
    "dmc-vision": EnvSpec(_RGB, ActionSpec("continuous", (6,))),
    "dreamer-v1": EnvSpec(_RGB, ActionSpec("continuous", (6,))),
    "dmc-proprio": EnvSpec({"observation": ArraySpec((24,), "float32")}, ActionSpec("continuous", (6,))),
    "vector": EnvSpec({"observation": ArraySpec((4,), "float32")}, ActionSpec("discrete", (2,))),
}


def example_env(config: Config, preset: str) -> str:
    """Return the configuration's environment, or the id of one that suits the preset and is always installed."""
    known = {"vector": "CartPole-v1", "dmc-proprio": "Pendulum-v1"}
    return config.env.name or known.get(_family(preset), "ALE/Boxing-v5")


def example_spec(preset: str) -> EnvSpec:
    """Return typical observations and actions of a preset: Atari with all 18 actions, if it has no others."""
    atari = EnvSpec({"image": ArraySpec((64, 64, 1), "uint8")}, ActionSpec("discrete", (18,)))
    return _SPECS.get(_family(preset), atari)


def _family(preset: str) -> str:
    return preset.replace("_", "-").removesuffix("-small")


def random_batch(spec: EnvSpec, length: int, size: int) -> dict[str, Array]:
    """Return sequences of random steps [T, B, ...], each of which begins an episode."""
    rng, lead = np.random.default_rng(0), (length, size)
    batch: dict[str, Array] = {}
    for key, entry in {**spec.observations, "reward": ArraySpec((), "float32")}.items():
        shape = (*lead, *entry.shape)
        is_bytes = entry.dtype == "uint8"
        batch[key] = rng.integers(0, 256, shape, np.uint8) if is_bytes else rng.standard_normal(shape, np.float32)
    if spec.action.kind == "discrete":
        choices = [np.eye(count, dtype=np.float32)[rng.integers(count, size=lead)] for count in spec.action.sizes]
        batch["action"] = np.concatenate(choices, -1)
    else:
        batch["action"] = rng.uniform(-1, 1, (*lead, spec.action.size)).astype(np.float32)
    batch["is_first"] = np.broadcast_to(np.arange(length)[:, None] == 0, lead).copy()
    batch["is_terminal"] = rng.random(lead) < 0.01
    batch["is_last"] = batch["is_terminal"].copy()
    return batch

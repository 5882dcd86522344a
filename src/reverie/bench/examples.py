"""What is measured where nobody names an environment: a typical one of each preset, and made-up steps of it."""

import numpy as np

from reverie.config import Config
from reverie.specs import ActionSpec, Array, ArraySpec, EnvSpec


def example_env(config: Config, preset: str) -> str:
    """Gymnasium id of an environment that is always installed: the configuration's own, or one that suits the preset.

    Args:
        config: its `env.name` counts if it is set.
        preset: the preset's name.
    """
    known = {"vector": "CartPole-v1", "dmc-proprio": "Pendulum-v1"}
    return config.env.name or known.get(preset.replace("_", "-"), "ALE/Boxing-v5")


def example_spec(preset: str) -> EnvSpec:
    """Observations and actions that a preset is made for: Atari with all 18 actions, where nothing else is known."""
    image = {"image": ArraySpec((64, 64, 3), "uint8")}
    known = {
        "crafter": EnvSpec(image, ActionSpec("discrete", (17,))),
        "dmc-vision": EnvSpec(image, ActionSpec("continuous", (6,))),
        "dreamer-v1": EnvSpec(image, ActionSpec("continuous", (6,))),
        "dmc-proprio": EnvSpec({"observation": ArraySpec((24,), "float32")}, ActionSpec("continuous", (6,))),
        "vector": EnvSpec({"observation": ArraySpec((4,), "float32")}, ActionSpec("discrete", (2,))),
    }
    atari = EnvSpec({"image": ArraySpec((64, 64, 1), "uint8")}, ActionSpec("discrete", (18,)))
    return known.get(preset.replace("_", "-"), atari)


def random_batch(spec: EnvSpec, length: int, size: int) -> dict[str, Array]:
    """Sequences of random steps [T, B, ...], each of which begins an episode."""
    rng = np.random.default_rng(0)
    lead = (length, size)
    batch: dict[str, Array] = {}
    for key, entry in spec.observations.items():
        shape = (*lead, *entry.shape)
        if entry.dtype == "uint8":
            batch[key] = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            batch[key] = rng.standard_normal(shape, dtype=np.float32)
    if spec.action.kind == "discrete":
        choices = [np.eye(count, dtype=np.float32)[rng.integers(0, count, lead)] for count in spec.action.sizes]
        batch["action"] = np.concatenate(choices, -1)
    else:
        batch["action"] = rng.uniform(-1, 1, (*lead, spec.action.size)).astype(np.float32)
    batch["reward"] = rng.standard_normal(lead, dtype=np.float32)
    batch["is_first"] = np.zeros(lead, bool)
    batch["is_first"][0] = True
    batch["is_terminal"] = rng.random(lead) < 0.01
    batch["is_last"] = batch["is_terminal"].copy()
    return batch

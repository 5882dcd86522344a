"""Variants of the agent by name: what the article compares, each as a few settings on top of a preset.

`docs/variants.md` gives the equation, the source and what is known of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reverie.config import Config
from reverie.config_io import did_you_mean, nearest, set_fields
from reverie.errors import ConfigError


@dataclass(frozen=True)
class Variant:
    """A change of the agent that has a name."""

    name: str
    description: str
    """One line."""
    settings: Mapping[str, Any]
    """By path, as on the command line."""


_ALL: tuple[Variant, ...] = (
    Variant("full", "The agent as its preset has it.", {}),
    Variant("gaussian-latents", "Gaussian instead of categorical latents.", {"world_model.rssm.latents": "gaussian"}),
    Variant("no-kl-balancing", "The plain KL instead of the balanced one.", {"world_model.kl.balance": 0.5}),
    Variant("no-image-gradients", "Images train the decoder only.", {"world_model.gradients.image": False}),
    Variant("no-reward-gradients", "Rewards train the reward head only.", {"world_model.gradients.reward": False}),
    Variant("reinforce-only", "Reinforce gradients only.", {"behavior.actor.gradient": "reinforce"}),
    Variant(
        "straight-through-only",
        "Only gradients through the learned dynamics, straight through the actions.",
        {"behavior.actor.gradient": "dynamics"},
    ),
    Variant("no-gru-norm", "A GRU without layer norm.", {"world_model.rssm.gru_layer_norm": False}),
)

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _ALL}
"""By name, in the order in which they are listed."""

ABLATIONS = (
    "gaussian-latents",
    "no-kl-balancing",
    "no-image-gradients",
    "no-reward-gradients",
    "reinforce-only",
    "straight-through-only",
    "no-gru-norm",
)
"""The article's six ablations in its own order, and the layer norm that it lists among its modifications."""


def variant(name: str) -> Variant:
    """The variant of a name.

    Raises:
        ConfigError: if there is none; the nearest one is given.
    """
    found = VARIANTS.get(name.replace("_", "-"))
    if found is None:
        near = nearest(name, VARIANTS, 1)
        ending = did_you_mean(near) if near else f"; the variants are {', '.join(VARIANTS)}."
        raise ConfigError(f"There is no variant '{name}'{ending}")
    return found


def combined(names: str) -> dict[str, Any]:
    """Settings of one variant, or of several joined by `+`.

    Raises:
        ConfigError: if there is no such variant, or two of them want the same setting at different values.
    """
    settings: dict[str, Any] = {}
    owners: dict[str, str] = {}
    for name in names.split("+"):
        one = variant(name)
        for path, value in one.settings.items():
            if path in settings and settings[path] != value:
                raise ConfigError(
                    f"The variants {owners[path]} and {one.name} contradict each other in {path}; leave one out."
                )
            settings[path], owners[path] = value, one.name
    return settings


def with_variant(config: Config, names: str) -> Config:
    """A configuration with the settings of a variant, or of several joined by `+`.

    Raises:
        ConfigError: if there is no such variant, or settings contradict each other.
    """
    return set_fields(config, combined(names))

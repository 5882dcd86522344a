"""Variants of the agent by name: what the article compares, each as a few settings on top of a preset.

`docs/variants.md` gives the equation, the source and what is known of each.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reverie.config import Config, EnvConfig
from reverie.config_io import as_text, did_you_mean, flatten, nearest, set_fields
from reverie.errors import ConfigError
from reverie.presets import ARTICLE_OBJECTIVE, SIZE_13M, SIZE_22M
from reverie.specs import EnvSpec

GRADIENT = "behavior.actor.gradient"
_OF_ENVIRONMENT = {GRADIENT, "world_model.head_gradients.image"}
"""Settings of variants whose effect depends on what an environment offers."""

_NO_WEIGHT: dict[str, Any] = {"behavior.actor.reinforce_weight": None}
"""eta_s goes with gradient=both only."""


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
    # Latents.
    Variant("categorical-latents", "Categorical latents.", {"world_model.rssm.latents": "categorical"}),
    Variant("gaussian-latents", "Gaussian instead of categorical latents.", {"world_model.rssm.latents": "gaussian"}),
    Variant("binary-latents", "Bits instead of categorical latents.", {"world_model.rssm.latents": "binary"}),
    # The world model's objective.
    Variant(
        "kl-balancing",
        "The balanced KL at scale 0.1, without free nats, and images at their full weight.",
        {
            "world_model.kl.objective": "balanced",
            "world_model.kl.scale": 0.1,
            "world_model.kl.balance": 0.8,
            "world_model.kl.free_nats": 0.0,
            "world_model.loss_scales.image": 1.0,
        },
    ),
    Variant(
        "no-kl-balancing",
        "The plain KL: five times the balanced one's pull on the posterior, 1.25 times that on the prior.",
        {"world_model.kl.balance": 0.5, "world_model.kl.equal_scale": False},
    ),
    Variant(
        "plain-kl",
        "The plain KL at the balanced one's scale: half of its gradient for each side.",
        {"world_model.kl.balance": 0.5, "world_model.kl.equal_scale": True},
    ),
    Variant(
        "free-nats",
        "Dreamer's KL: the plain one at scale 1, of whose mean over the batch 3 nats are free.",
        {
            "world_model.kl.scale": 1.0,
            "world_model.kl.balance": 0.5,
            "world_model.kl.equal_scale": False,
            "world_model.kl.free_nats": 3.0,
            "world_model.kl.free_average": True,
        },
    ),
    Variant("split", "The article's world model loss with its five coefficients.", ARTICLE_OBJECTIVE),
    Variant("no-image-gradients", "Images train the decoder only.", {"world_model.head_gradients.image": False}),
    Variant("no-reward-gradients", "Rewards train the reward head only.", {"world_model.head_gradients.reward": False}),
    Variant(
        "no-discount-gradients", "Ends train the discount head only.", {"world_model.head_gradients.discount": False}
    ),
    # Networks.
    Variant("gru-norm", "Layer norm in the GRU.", {"world_model.rssm.gru_layer_norm": True}),
    Variant("no-gru-norm", "A GRU without layer norm.", {"world_model.rssm.gru_layer_norm": False}),
    Variant("size-13m", "The article's smaller size: 13M parameters.", SIZE_13M),
    Variant("size-22m", "DreamerV2's size: 22M parameters.", SIZE_22M),
    # The actor.
    Variant("reinforce-only", "Reinforce gradients only.", {"behavior.actor.gradient": "reinforce", **_NO_WEIGHT}),
    Variant(
        "straight-through-only",
        "Only gradients through the learned dynamics, straight through the actions.",
        {"behavior.actor.gradient": "dynamics", **_NO_WEIGHT},
    ),
    Variant(
        "mixed-gradients",
        "Both gradients: eta_s 0.9, eta_d falling from 0.1 to 0 over 10M frames.",
        {
            "behavior.actor.gradient": "both",
            "behavior.actor.reinforce_weight": 0.9,
            "behavior.actor.dynamics_weight": "linear(0.1,0,10e6 frames)",
            "behavior.actor.reinforce_sample": "detached",
        },
    ),
    Variant(
        "policy-entropy",
        "Entropy, falling over 10M frames, instead of action noise.",
        {"behavior.actor.entropy": "linear(3e-3,3e-4,10e6 frames)", "behavior.actor.exploration_noise": 0.0},
    ),
    Variant(
        "action-noise",
        "Action noise, as in Dreamer, instead of entropy.",
        {"behavior.actor.entropy": 0.0, "behavior.actor.exploration_noise": 0.3},
    ),
    Variant("long-term-entropy", "The policy's entropy inside the return.", {"behavior.long_term_entropy": True}),
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

MODIFICATIONS = {
    "categorical-latents": "gaussian-latents",
    "mixed-gradients": "straight-through-only",
    "policy-entropy": "action-noise",
    "kl-balancing": "free-nats",
    "size-22m": "size-13m",
    "gru-norm": "no-gru-norm",
}
"""The article's summary of modifications in its order, each with the variant of atari-paper that is without it."""


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
    """A configuration with the settings of a variant, or of several joined by `+`, whether they change anything or not.

    Raises:
        ConfigError: if there is no such variant, or settings contradict each other.
    """
    return set_fields(config, combined(names))


def configure(
    base: Config, names: str | None, settings: Mapping[str, Any], spec_of: Callable[[EnvConfig], EnvSpec]
) -> Config:
    """A configuration with variants, each of which has an effect, and with settings on top of them.

    Args:
        base: a preset.
        names: variants joined by `+`; None for none.
        settings: by path; they also replace those of the variants.
        spec_of: what an environment offers. Asked where a variant's effect depends on it.

    Raises:
        ConfigError: if a variant has no effect together with the others and the settings, with the reason; or as for
            `with_variant` and `set_fields`.
    """
    if names is None:
        return set_fields(base, settings)
    config = set_fields(with_variant(base, names), settings)
    spec = spec_of(config.env) if _OF_ENVIRONMENT & combined(names).keys() else None
    for name, others in left_out(names):
        try:
            without = set_fields(with_variant(base, others), settings)
        except ConfigError:  # the settings need this variant
            continue
        if problem := idle(name, config, without, spec):
            raise ConfigError(problem)
    return config


def left_out(names: str) -> Iterator[tuple[str, str]]:
    """Each of several variants that are joined by `+`, and the others."""
    single = names.split("+")
    for number, name in enumerate(single):
        yield variant(name).name, "+".join(single[:number] + single[number + 1 :]) or "full"


def idle(name: str, config: Config, without: Config, spec: EnvSpec | None = None) -> str:
    """Why a variant has no effect, as a sentence; empty if it has one.

    Args:
        name: of the variant; `full` is never idle.
        config: with it.
        without: the same without it.
        spec: what the environment offers, if that is known.
    """
    if name == "full" or effective(config, spec) != effective(without, spec):
        return ""
    unused, values = unread(config, spec), effective(config, spec)
    settings = VARIANTS[name].settings
    same = [f"{path} is {as_text(values[path])} without it" for path in settings if path in values]
    reasons = same or [f"{path} is not read, as {unused[path]}" for path in settings]
    return f"The variant {name} changes nothing here: {reasons[0]}. Leave it out."


def effective(config: Config, spec: EnvSpec | None = None) -> dict[str, Any]:
    """Settings that have an effect, by path. Agents for which they are equal learn the same.

    Args:
        config: of the agent.
        spec: what the environment offers. With it the actor's gradient is never `auto`, and settings of observations
            that are not there are left out.
    """
    values = flatten(config)
    if spec is not None and values[GRADIENT] == "auto":
        values[GRADIENT] = "dynamics" if spec.action.kind == "continuous" else "reinforce"
    unused = unread(config, spec)
    return {path: value for path, value in values.items() if path not in unused}


def unread(config: Config, spec: EnvSpec | None = None) -> dict[str, str]:
    """Settings that have no effect, by path, and why; arguments as for `effective`."""
    model, actor, decoder = config.world_model, config.behavior.actor, config.world_model.decoder
    found: dict[str, str] = {}

    def note(reason: str, part: str, *names: str) -> None:
        found.update({f"{part}.{name}": reason for name in names})

    if model.kl.objective == "split":
        balanced = ("scale", "balance", "equal_scale", "free_nats", "free_average", "forward")
        note("world_model.kl.objective is split", "world_model.kl", *balanced)
    else:
        note("world_model.kl.objective is balanced", "world_model.kl", "prior_scale", "posterior_entropy_scale")
        if model.kl.balance != 0.5:
            note("world_model.kl.balance is not 0.5", "world_model.kl", "equal_scale")
        if model.kl.free_nats == 0:
            note("world_model.kl.free_nats is 0", "world_model.kl", "free_average")
    for kind, is_image in (("image", True), ("vector", False)):
        predicted = decoder.kinds in ("all", f"{kind}s") and (
            spec is None
            or any(
                observation.is_image == is_image and (not decoder.keys or key in decoder.keys)
                for key, observation in spec.observations.items()
            )
        )
        if not predicted:
            note(f"no {kind}s are predicted", "world_model.head_gradients", kind)
            note(f"no {kind}s are predicted", "world_model.loss_scales", kind)
    if not model.predict_discount:
        for part in ("world_model.head_gradients", "world_model.loss_scales"):
            note("world_model.predict_discount is false", part, "discount")
        note("world_model.predict_discount is false", "world_model.discount_head", *flatten(model.discount_head))
    if actor.gradient != "both":
        mixing = ("dynamics_weight", "reinforce_weight", "reinforce_sample")
        note(f"behavior.actor.gradient is {actor.gradient}", "behavior.actor", *mixing)
    if actor.entropy == 0:
        note("behavior.actor.entropy is 0", "behavior", "long_term_entropy")
    return found

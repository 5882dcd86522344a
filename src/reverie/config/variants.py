"""Variants of the agent by name: the article's comparisons, each as a few settings on top of a preset.

The settings are in `variants/`. `docs/variants.md` has the equation, the source and the result of each.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.config.conversion import as_text, convert, flatten
from reverie.config.names import did_you_mean, nearest
from reverie.config.presets import read_toml
from reverie.config.schema import Config, EnvConfig
from reverie.config.settings import FIELD_TYPES
from reverie.errors import ConfigError
from reverie.specs import EnvSpec

NAMES = (
    "full",
    "categorical-latents",
    "gaussian-latents",
    "binary-latents",
    "kl-balancing",
    "no-kl-balancing",
    "plain-kl",
    "free-nats",
    "split",
    "no-image-gradients",
    "no-reward-gradients",
    "no-discount-gradients",
    "gru-norm",
    "no-gru-norm",
    "size-13m",
    "size-22m",
    "reinforce-only",
    "straight-through-only",
    "mixed-gradients",
    "policy-entropy",
    "action-noise",
    "long-term-entropy",
)
"""Variants in the order in which they are listed: the agent, latents, objective, networks, actor."""

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

_FOLDER = Path(__file__).with_name("variants")
_GRADIENT = "behavior.actor.gradient"
_OF_ENVIRONMENT = {_GRADIENT, "world_model.head_gradients.image"}
"""Settings of variants whose effect depends on the environment's spaces."""


@dataclass(frozen=True)
class Variant:
    """Named change of the agent."""

    name: str
    description: str
    """One line."""
    settings: Mapping[str, Any]
    """New values by path."""


def _load(name: str) -> Variant:
    data = read_toml(_FOLDER / f"{name}.toml")
    description = data.pop("description")
    return Variant(name, description, {path: convert(value, FIELD_TYPES[path], path) for path, value in _leaves(data)})


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


VARIANTS = {name: _load(name) for name in NAMES}
"""Variants by name."""


def variant(name: str) -> Variant:
    """Return the variant of a name.

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
    """Return the settings of one variant, or of several joined by `+`.

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
    """Return a configuration with a variant, or several joined by `+`, even if they change nothing.

    Raises:
        ConfigError: if there is no such variant, or settings contradict each other.
    """
    return config.override(**combined(names))


def configure(
    base: Config, names: str | None, settings: Mapping[str, Any], spec_of: Callable[[EnvConfig], EnvSpec]
) -> Config:
    """Return a configuration with variants, each of which has an effect, and with settings on top of them.

    Args:
        base: a preset.
        names: variants joined by `+`; None for none.
        settings: by path; they also replace those of the variants.
        spec_of: function that returns an environment's spaces, called where a variant's effect depends on them.

    Raises:
        ConfigError: if a variant has no effect together with the others and the settings, with the reason; or as for
            `with_variant` and `Config.override`.
    """
    if names is None:
        return base.override(**settings)
    config = with_variant(base, names).override(**settings)
    spec = spec_of(config.env) if _OF_ENVIRONMENT & combined(names).keys() else None
    for name, others in left_out(names):
        try:
            without = with_variant(base, others).override(**settings)
        except ConfigError:  # the settings need this variant
            continue
        if problem := idle(name, config, without, spec):
            raise ConfigError(problem)
    return config


def left_out(names: str) -> Iterator[tuple[str, str]]:
    """Yield each of several variants that are joined by `+`, and the others."""
    single = names.split("+")
    for number, name in enumerate(single):
        yield variant(name).name, "+".join(single[:number] + single[number + 1 :]) or "full"


def idle(name: str, config: Config, without: Config, spec: EnvSpec | None = None) -> str:
    """Return the reason why a variant has no effect, as a sentence; an empty text if it has one.

    Args:
        name: name of the variant; `full` is never idle.
        config: configuration with it.
        without: the same configuration without it.
        spec: spaces of the environment, if known.
    """
    if name == "full" or effective(config, spec) != effective(without, spec):
        return ""
    unused, values = unread(config, spec), effective(config, spec)
    settings = VARIANTS[name].settings
    same = [f"{path} is {as_text(values[path])} without it" for path in settings if path in values]
    reasons = same or [f"{path} is not read, as {unused[path]}" for path in settings]
    return f"The variant {name} changes nothing here: {reasons[0]}. Leave it out."


def effective(config: Config, spec: EnvSpec | None = None) -> dict[str, Any]:
    """Return the settings that have an effect, by path. Agents for which they are equal learn the same.

    Args:
        config: configuration of an agent.
        spec: spaces of the environment. With them the actor's gradient is never `auto`, and settings of kinds of
            observations that it does not have are left out.
    """
    values = flatten(config)
    if spec is not None and values[_GRADIENT] == "auto":
        values[_GRADIENT] = "dynamics" if spec.action.kind == "continuous" else "reinforce"
    unused = unread(config, spec)
    return {path: value for path, value in values.items() if path not in unused}


def unread(config: Config, spec: EnvSpec | None = None) -> dict[str, str]:
    """Return the settings that have no effect, by path, with the reason; arguments as for `effective`."""
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

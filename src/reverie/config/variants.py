"""Variants of the agent by name: the article's comparisons, each as a few settings on top of a preset.

The settings are in `variants.toml`. `docs/variants.md` has the equation, the source and the result of each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.config.names import did_you_mean
from reverie.config.presets import read_toml
from reverie.config.schema import Config, EnvConfig
from reverie.config.settings import as_text, flatten
from reverie.errors import ConfigError
from reverie.specs import EnvSpec

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


@dataclass(frozen=True)
class Variant:
    """Named change of the agent."""

    name: str
    description: str
    """One line."""
    settings: Mapping[str, Any]
    """New values by path."""


VARIANTS: dict[str, Variant] = {}
"""Variants by name, in the order of the file."""
for _name, _values in read_toml(Path(__file__).with_suffix(".toml")).items():
    _description = _values.pop("description")
    _converted = flatten(Config().override(**_values))
    VARIANTS[_name] = Variant(_name, _description, {path: _converted[path] for path in _values})


def combined(names: str) -> dict[str, Any]:
    """Return the settings of one variant, or of several joined by `+`.

    Raises:
        ConfigError: if there is no such variant, or two of them want the same setting at different values.
    """
    settings: dict[str, Any] = {}
    owners: dict[str, str] = {}
    for name in names.replace("_", "-").split("+"):
        if name not in VARIANTS:
            ending = did_you_mean(name, VARIANTS, "the variants are")
            raise ConfigError(f"There is no variant '{name}'{ending}")
        for path, value in VARIANTS[name].settings.items():
            if path in settings and settings[path] != value:
                raise ConfigError(
                    f"The variants {owners[path]} and {name} contradict each other in {path}; leave one out."
                )
            settings[path], owners[path] = value, name
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
        spec_of: function that returns an environment's spaces.

    Raises:
        ConfigError: if a variant has no effect together with the others and the settings, with the reason; or as for
            `with_variant` and `Config.override`.
    """
    if names is None:
        return base.override(**settings)

    def build(names: str) -> Config:
        return with_variant(base, names).override(**settings)

    config = build(names)
    if problem := idle(names, config, build, spec_of(config.env)):
        raise ConfigError(problem)
    return config


def idle(names: str, config: Config, build: Callable[[str], Config], spec: EnvSpec | None = None) -> str:
    """Return the sentence that says which variant has no effect, and why; an empty text if each has one.

    Args:
        names: variants joined by `+`; `full` is never idle.
        config: configuration with all of them.
        build: function that returns the configuration with other variants.
        spec: spaces of the environment, if known.
    """
    single = names.replace("_", "-").split("+")
    values, unused = effective(config, spec), unread(config, spec)
    for number, name in enumerate(single):
        try:
            without = build("+".join(single[:number] + single[number + 1 :]) or "full")
        except ConfigError:  # the settings need this variant
            continue
        if name != "full" and effective(without, spec) == values:
            settings = VARIANTS[name].settings
            same = [f"{path} is {as_text(values[path])} without it" for path in settings if path in values]
            reasons = same or [f"{path} is not read, as {unused[path]}" for path in settings]
            return f"The variant {name} changes nothing here: {reasons[0]}. Leave it out."
    return ""


def effective(config: Config, spec: EnvSpec | None = None) -> dict[str, Any]:
    """Return the settings that have an effect, by path. Agents for which they are equal learn the same.

    Args:
        config: configuration of an agent.
        spec: spaces of the environment. With them the actor's gradient is never `auto`, and settings of kinds of
            observations that it does not have are left out.
    """
    values = flatten(config)
    if spec is not None and values["behavior.actor.gradient"] == "auto":
        values["behavior.actor.gradient"] = "dynamics" if spec.action.kind == "continuous" else "reinforce"
    unused = unread(config, spec)
    return {path: value for path, value in values.items() if path not in unused}


def unread(config: Config, spec: EnvSpec | None = None) -> dict[str, str]:
    """Return the settings that have no effect, by path, with the reason; arguments as for `effective`."""
    model, actor, decoder = config.world_model, config.behavior.actor, config.world_model.decoder
    kl, is_split = model.kl, model.kl.objective == "split"
    found: dict[str, str] = {}

    def note(condition: bool, reason: str, part: str, *names: str) -> None:
        if condition:
            found.update({f"{part}.{name}": reason for name in names})

    balanced = ("scale", "balance", "equal_scale", "free_nats", "free_average", "forward")
    note(not is_split and kl.balance != 0.5, "world_model.kl.balance is not 0.5", "world_model.kl", "equal_scale")
    note(not is_split and kl.free_nats == 0, "world_model.kl.free_nats is 0", "world_model.kl", "free_average")
    split = ("prior_scale", "posterior_entropy_scale")
    note(True, f"world_model.kl.objective is {kl.objective}", "world_model.kl", *(balanced if is_split else split))
    for kind, is_image in (("image", True), ("vector", False)):
        predicted = decoder.kinds in ("all", f"{kind}s") and (
            spec is None
            or any(
                observation.is_image == is_image and (not decoder.keys or key in decoder.keys)
                for key, observation in spec.observations.items()
            )
        )
        for part in ("world_model.head_gradients", "world_model.loss_scales"):
            note(not predicted, f"no {kind}s are predicted", part, kind)
    no_head = "world_model.predict_discount is false"
    note(not model.predict_discount, no_head, "world_model", "head_gradients.discount", "loss_scales.discount")
    note(not model.predict_discount, no_head, "world_model.discount_head", *flatten(model.discount_head))
    mixing = ("dynamics_weight", "reinforce_weight", "reinforce_sample")
    note(actor.gradient != "both", f"behavior.actor.gradient is {actor.gradient}", "behavior.actor", *mixing)
    note(actor.entropy == 0, "behavior.actor.entropy is 0", "behavior", "long_term_entropy")
    collect = config.training.collect
    note(collect != "none", f"training.collect is {collect}", "training", "validation_share")
    explore, exploration = config.training.explore, config.exploration
    reason = f"training.explore is {explore}"
    note(explore == "greedy", reason, "exploration", "until")
    learns = explore in ("plan2explore", "model-loss")
    note(not learns, reason, "exploration", *(path for path in flatten(exploration) if path != "until"))
    ensemble = ("head.models", "head.target", "head.action", "head.log")
    note(explore == "model-loss", reason, "exploration", *ensemble, *flatten(exploration.reward_norm, "reward_norm."))
    return found

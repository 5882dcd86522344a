"""What makes two runs the same agent, and what an agent is called."""

from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from reverie.config import PRESETS, VARIANTS, Config, combined, flatten, with_variant
from reverie.errors import ConfigError

COMPUTATION = frozenset(
    {
        "env.parallel",
        "training.device",
        "training.precision",
        "training.threads",
        "training.async_collection",
        "training.compile",
        "training.cuda_graphs",
    }
)
"""Settings of how a run is carried out: they may change its numbers, and make no other agent."""
INCIDENTAL = COMPUTATION | frozenset(
    {
        "env.name",  # an agent is compared over environments
        "training.steps",  # a longer run of the same agent; scores are compared at common frames
        "training.seed",
        "training.log_every",
        "training.eval_every",
        "training.eval_episodes",
        "training.video_every",
        "training.checkpoint_every",
        "training.keep_checkpoints",
    }
)
"""Settings that may differ between the seeds of one agent."""
SHOWN = 3
"""Settings that a label spells out."""
_NOTHING = object()


def agent_settings(config: Config) -> tuple[tuple[str, Hashable], ...]:
    """Every setting that makes an agent what it is; equal for runs that are seeds of one agent."""
    return tuple((path, value) for path, value in flatten(config).items() if path not in INCIDENTAL)


def shared_settings(agents: Sequence[tuple[Config, str | None, str | None]]) -> dict[str, Any]:
    """Settings that several agents all have in place of their presets', by path; a label need not repeat them.

    An agent whose variant itself says what a setting is has a say in no other's: with `straight-through-only` among
    the agents, `behavior.actor.gradient=both` is still shared by the rest.

    Args:
        agents: configuration, preset and variant of each, as for `agent_label`; one alone shares nothing.
    """
    if len(agents) < 2:
        return {}
    nearest = [_nearest(*agent) for agent in agents]
    changes = [{path: value for path, _, value in found[2]} for found in nearest]
    own = [combined(found[1]) for found in nearest]
    shared: dict[str, Any] = {}
    for path, value in (entry for one in changes for entry in one.items()):
        having = [one.get(path, _NOTHING) == value for one in changes]
        if sum(having) > 1 and all(has or path in said for has, said in zip(having, own, strict=True)):
            shared[path] = value
    return shared


def agent_label(
    config: Config,
    preset: str | None = None,
    variant: str | None = None,
    shown: int | None = SHOWN,
    shared: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """`atari-small`, `atari-small, gaussian-latents`, or with settings, `atari-small, world_model.kl.scale=1`.

    Args:
        config: of the run.
        preset: that the run says it was started with; None looks for the nearest.
        variant: likewise.
        shown: so many of the other settings are spelt out, the rest counted; None spells out all.
        shared: settings that are left out, from `shared_settings`.
    """
    name, base_variant, every = _nearest(config, preset, variant)
    changes = [entry for entry in every if shared.get(entry[0], _NOTHING) != entry[2]]
    spelt = changes[:shown]
    more = len(changes) - len(spelt)
    parts = [name, *([] if base_variant == "full" else [base_variant])]
    parts += [setting_text(path, value) for path, _, value in spelt]
    return ", ".join([*parts, *([f"{more} more settings"] if more > 1 else ["1 more setting"] if more else [])])


def nearest_preset(config: Config, preset: str | None = None) -> str:
    """Return the name of the preset that a run says it was started with, or else of the nearest one."""
    return _nearest(config, preset, None)[0]


def setting_text(path: str, value: Any) -> str:
    """`world_model.kl.scale=1`."""
    return f"{path}={_text(value)}"


def _nearest(config: Config, preset: str | None, variant: str | None) -> tuple[str, str, list[tuple[str, Any, Any]]]:
    """Preset, variant and remaining differences; those that are not given are chosen to leave the fewest."""
    presets = [str(preset)] if preset in PRESETS else list(PRESETS)
    variants = [variant] if variant and _is_variant(variant) else list(VARIANTS)
    candidates: list[tuple[int, int, bool, int, str, str, list[tuple[str, Any, Any]]]] = []
    values = flatten(config)
    for name in presets:
        for change in variants:
            base = _settings(name, change)
            every = [(path, value, values[path]) for path, value in base.items() if values[path] != value]
            changes = [entry for entry in every if entry[0] not in INCIDENTAL]
            if base:
                # Where two say the same, a preset's own name goes before that of another with a variant.
                candidates.append((len(changes), len(every), change != "full", len(candidates), name, change, changes))
    return min(candidates)[-3:] if candidates else _nearest(config, preset, None)


@cache
def _settings(preset: str, variant: str) -> dict[str, Any]:
    """Every setting by path; empty if the variant does not fit the preset."""
    try:
        return flatten(with_variant(PRESETS[preset].config, variant))
    except ConfigError:
        return {}


def _is_variant(names: str) -> bool:
    try:
        with_variant(Config(), names)
    except ConfigError:
        return False
    return True


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_text, value)) or "(all)"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)

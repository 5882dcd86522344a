"""Agents of runs: settings that distinguish them, and labels."""

from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from reverie.analysis.format import plural
from reverie.config import PRESETS, VARIANTS, Config, combined, flatten, with_variant
from reverie.errors import ConfigError

COMPUTATION = frozenset(
    ("env.parallel", "training.device", "training.precision", "training.threads", "training.async_collection",
     "training.compile", "training.cuda_graphs")
)  # fmt: skip
"""Settings of the computation: they may change a run's numbers, and make no other agent."""
INCIDENTAL = COMPUTATION | frozenset(
    ("env.name",  # an agent is compared over environments
     "training.steps",  # a longer run of the same agent; scores are compared at common frames
     "training.seed", "training.log_every", "training.eval_every", "training.eval_episodes", "training.video_every",
     "training.checkpoint_every", "training.keep_checkpoints")
)  # fmt: skip
"""Settings that may differ between the seeds of one agent."""
SHOWN = 3
"""Settings that a label spells out."""
_NOTHING = object()


def agent_settings(config: Config) -> tuple[tuple[str, Hashable], ...]:
    """Return every setting that defines an agent; equal for runs that are seeds of one agent."""
    return tuple((path, value) for path, value in flatten(config).items() if path not in INCIDENTAL)


def shared_settings(agents: Sequence[tuple[Config, str | None, str | None]]) -> dict[str, Any]:
    """Return the settings that all agents have in place of their presets', by path; labels omit them.

    Agents are configuration, preset and variant. One whose variant itself sets a path has no say for the others: with
    `straight-through-only` among them, `behavior.actor.gradient=both` is still shared by the rest.
    """
    found = [_nearest(*agent) for agent in agents]
    return {
        path: value
        for _, _, changes in found
        for path, value in changes.items()
        if all(other.get(path, _NOTHING) == value or path in combined(variant) for _, variant, other in found)
    }


def agent_label(
    config: Config,
    preset: str | None = None,
    variant: str | None = None,
    shared: Mapping[str, Any] = MappingProxyType({}),
    shown: int | None = SHOWN,
) -> str:
    """Return `atari-small`, `atari-small, gaussian-latents`, or with settings, `atari-small, world_model.kl.scale=1`.

    Preset and variant are those that the run says it was started with; None takes the nearest. Shared settings are left
    out; so many of the others are spelt out and the rest is counted, None spells out all.
    """
    name, base_variant, changes = _nearest(config, preset, variant)
    own = [setting_text(*entry) for entry in changes.items() if shared.get(entry[0], _NOTHING) != entry[1]]
    more = [] if shown is None or len(own) <= shown else [f"{plural(len(own) - shown, 'more setting')}"]
    return ", ".join([name, *([] if base_variant == "full" else [base_variant]), *own[:shown], *more])


def setting_text(path: str, value: Any) -> str:
    """Return `world_model.kl.scale=1`."""
    return f"{path}={_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_text, value)) or "(all)"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _nearest(config: Config, preset: str | None, variant: str | None) -> tuple[str, str, dict[str, Any]]:
    """Return preset, variant and remaining differences; those that are not given are chosen to leave the fewest."""
    presets = [str(preset)] if preset in PRESETS else list(PRESETS)
    variants = [variant] if variant else list(VARIANTS)
    values = flatten(config)
    candidates: list[tuple[tuple[int, int, bool], str, str, dict[str, Any]]] = []
    for name in presets:
        for change in variants:
            base = _settings(name, change)
            every = [path for path, value in base.items() if values[path] != value]
            changes = {path: values[path] for path in every if path not in INCIDENTAL}
            # Where two have as few, a preset's own name precedes that of another with a variant.
            candidates += [((len(changes), len(every), change != "full"), name, change, changes)] if base else []
    return min(candidates, key=lambda candidate: candidate[0])[1:] if candidates else _nearest(config, preset, None)


@cache
def _settings(preset: str, variant: str) -> dict[str, Any]:
    """Return every setting by path; empty if the variant does not fit the preset."""
    try:
        return flatten(with_variant(PRESETS[preset].config, variant))
    except ConfigError:
        return {}

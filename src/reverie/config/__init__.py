"""Configuration: settings as frozen dataclasses, presets and variants as TOML.

Start with `schema.py` and `agent.py`, which have every setting. `settings.py` reads, writes and changes settings by
name, `presets.py` loads configuration files, `variants.py` named changes of the agent.
"""

from reverie.config.agent import (
    ActorConfig,
    BehaviorConfig,
    CriticConfig,
    DecoderConfig,
    EncoderConfig,
    ExplorationHeadConfig,
    KLConfig,
    MLPConfig,
    OptimizerConfig,
    RewardNormConfig,
    RSSMConfig,
    WorldModelConfig,
)
from reverie.config.names import did_you_mean, nearest, option, resolve
from reverie.config.presets import PRESETS, default_preset, load_config, preset
from reverie.config.schedules import parse_schedule
from reverie.config.schema import (
    PATHS,
    Config,
    EnvConfig,
    RayConfig,
    ReplayConfig,
    TrainingConfig,
    config_in_steps,
    from_dict,
)
from reverie.config.settings import as_text, convert, diff, flatten, to_dict, to_toml
from reverie.config.variants import ABLATIONS, VARIANTS, combined, configure, effective, idle, with_variant
from reverie.errors import ConfigError

__all__ = [
    "ABLATIONS",
    "PATHS",
    "PRESETS",
    "VARIANTS",
    "ActorConfig",
    "BehaviorConfig",
    "Config",
    "ConfigError",
    "CriticConfig",
    "DecoderConfig",
    "EncoderConfig",
    "EnvConfig",
    "ExplorationHeadConfig",
    "KLConfig",
    "MLPConfig",
    "OptimizerConfig",
    "RSSMConfig",
    "RayConfig",
    "ReplayConfig",
    "RewardNormConfig",
    "TrainingConfig",
    "WorldModelConfig",
    "as_text",
    "combined",
    "config_in_steps",
    "configure",
    "convert",
    "default_preset",
    "did_you_mean",
    "diff",
    "effective",
    "flatten",
    "from_dict",
    "idle",
    "load_config",
    "nearest",
    "option",
    "parse_schedule",
    "preset",
    "resolve",
    "to_dict",
    "to_toml",
    "with_variant",
]

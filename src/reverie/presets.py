"""Named configurations: one line of description, and the settings that differ from the release's defaults.

Settings are written by their path, as on the command line. Numbers are those of the authors' release
(`configs.yaml`) unless the description says otherwise.
"""

from dataclasses import dataclass
from typing import Any

from reverie.config import Config
from reverie.config_io import did_you_mean, nearest, set_fields
from reverie.errors import ConfigError
from reverie.schedules import Schedule
from reverie.specs import EnvSpec


@dataclass(frozen=True)
class Preset:
    """A configuration with a name."""

    name: str
    description: str
    """One line."""
    config: Config


_MLPS = (
    "world_model.encoder.mlp",
    "world_model.decoder.mlp",
    "world_model.reward_head",
    "world_model.discount_head",
    "behavior.actor",
    "behavior.critic",
)
_CNNS = ("world_model.encoder", "world_model.decoder")


def sizes(recurrent: int, units: int = 400, layers: int = 4, depth: int = 48) -> dict[str, Any]:
    """Settings of every width that the presets scale together; the defaults are the release's."""
    widths: dict[str, Any] = {"world_model.rssm.deter": recurrent, "world_model.rssm.hidden": recurrent}
    widths |= {f"{mlp}.units": units for mlp in _MLPS}
    widths |= {f"{mlp}.layers": layers for mlp in _MLPS}
    return widths | {f"{cnn}.cnn_depth": depth for cnn in _CNNS}


SIZE_22M = sizes(recurrent=600)
"""The release's Atari agent: 22.2M trained parameters with 18 actions."""
SIZE_13M = sizes(recurrent=400, depth=32)
"""12.8M with categorical latents. The article gives the sum, as Dreamer's, and no widths: these are Dreamer's feature
maps, and the recurrent state that makes up the rest. The released Dreamer has 6.7M."""


def _learning_rates(model: Schedule, actor: Schedule, critic: Schedule) -> dict[str, Any]:
    return {
        "world_model.optimizer.lr": model,
        "behavior.actor.optimizer.lr": actor,
        "behavior.critic.optimizer.lr": critic,
    }


def _seeing(kinds: str) -> dict[str, Any]:
    """Settings by which the agent reads and predicts observations of some kinds only."""
    return {"world_model.encoder.kinds": kinds, "world_model.decoder.kinds": kinds}


_ATARI: dict[str, Any] = {
    "env.action_repeat": 4,
    "env.time_limit": 27_000,
    "training.steps": 50_000_000,
    "training.prefill": 50_000,
    "training.train_every": 16,
    "training.eval_every": 250_000,
    "world_model.discount": 0.999,
    "world_model.kl.scale": 0.1,
    "world_model.loss_scales.discount": 5.0,
    "behavior.actor.entropy": 1e-3,
    **SIZE_22M,
    **_learning_rates(2e-4, 4e-5, 1e-4),
}

_ATARI_PAPER: dict[str, Any] = {
    **_ATARI,
    "env.full_action_space": True,
    "replay.batch_size": 50,
    "training.train_every": 4,
    "world_model.discount": 0.995,
    "world_model.loss_scales.discount": 1.0,
    "behavior.actor.gradient": "both",
    "behavior.actor.dynamics_weight": "linear(0.1,0,10e6 frames)",
    "behavior.actor.reinforce_weight": 0.9,
    "behavior.actor.entropy": "linear(3e-3,3e-4,10e6 frames)",
}

ARTICLE_OBJECTIVE: dict[str, Any] = {
    "world_model.kl.objective": "split",
    "world_model.kl.prior_scale": 0.08,
    "world_model.kl.posterior_entropy_scale": 0.02,
    "world_model.loss_scales.image": 1 / (64 * 64 * 3),
    "world_model.loss_scales.reward": 1.0,
    "world_model.loss_scales.discount": 1.0,
}
"""The article's world model loss with its five coefficients; docs/variants.md says what it does to the latents."""

_ARTICLE: dict[str, Any] = {**_ATARI_PAPER, **ARTICLE_OBJECTIVE}

# The defaults of danijar/dreamer, which counts frames; docs/variants.md lists what still differs. Its first 100 updates
# replace those that are due at the first step; here they are these, without pretraining.
_DREAMER_V1: dict[str, Any] = {
    **sizes(recurrent=200, depth=32),
    **_learning_rates(6e-4, 8e-5, 8e-5),
    **{f"{part}.optimizer.weight_decay": 0.0 for part in ("world_model", "behavior.actor", "behavior.critic")},
    **{f"{part}.optimizer.eps": 1e-7 for part in ("world_model", "behavior.actor", "behavior.critic")},
    **_seeing("images"),
    **{f"{cnn}.cnn_activation": "relu" for cnn in _CNNS},
    "env.action_repeat": 2,
    "env.time_limit": 500,
    "env.grayscale": False,
    "replay.batch_size": 50,
    "replay.capacity": 2_505_000,  # every step, and the reset of every episode
    "replay.prioritize_ends": False,
    "training.steps": 2_500_000,
    "training.prefill": 2_500,
    "training.pretrain": 0,
    "training.train_every": 500,
    "training.train_steps": 100,
    "training.eval_every": 5_000,
    "training.log_every": 500,
    "world_model.rssm.latents": "gaussian",
    "world_model.rssm.stoch": 30,
    "world_model.rssm.std_activation": "softplus",
    "world_model.rssm.gru_layer_norm": False,
    "world_model.reward_head.layers": 2,
    "world_model.discount_head.layers": 3,
    "world_model.predict_discount": False,
    "world_model.reward_transform": "identity",
    "world_model.loss_scales.discount": 10.0,
    "world_model.kl.balance": 0.5,
    "world_model.kl.free_nats": 3.0,
    "behavior.actor.distribution": "tanh_normal",
    "behavior.actor.init_std": 5.0,
    "behavior.actor.min_std": 1e-4,
    "behavior.actor.gradient": "dynamics",
    "behavior.actor.entropy": 0.0,
    "behavior.actor.exploration_noise": 0.3,
    "behavior.critic.layers": 3,
    "behavior.critic.slow_target": False,
}

_ATARI_SMALL: dict[str, Any] = {
    **_ATARI,
    **sizes(recurrent=200, units=200, depth=16),
    "training.steps": 250_000,
    "training.prefill": 5_000,
    "training.eval_every": 25_000,
    "training.video_every": 25_000,
}

# Meant for 1M frames in two hours on two cores (docs/results.md, Boxing). A CPU pays for every step of a batch, so
# batches are small and learning rates high. Rewards are the bottleneck: their loss weighs more, and the world model
# learns them from random play, which is full of them, before behavior begins to learn.
_ATARI_LAPTOP: dict[str, Any] = {
    **_ATARI_SMALL,
    **_learning_rates("linear(7e-4,1e-4,1e6 frames)", 8e-5, 2e-4),
    "env.num_envs": 8,
    "env.parallel": False,
    "replay.batch_size": 10,
    "replay.batch_length": 16,
    "replay.sampling": "steps",
    "world_model.decoder.cnn_depth": 8,
    "world_model.discount_head.layers": 2,
    "world_model.loss_scales.reward": 40.0,
    "world_model.discount": 0.985,
    "behavior.horizon": 10,
    "behavior.actor.layers": 2,
    "behavior.actor.entropy": "linear(1.6e-3,3e-4,1e6 frames)",
    "behavior.critic.layers": 2,
    "behavior.critic.target_update_interval": 1,
    "behavior.critic.target_tau": 0.02,
    "training.prefill": 100_000,
    "training.pretrain_world_model": 9_000,
    "training.train_every": 8,
    "training.eval_every": 20_000,
    "training.eval_episodes": 2,
    "training.checkpoint_every": 10_000,
}

# Some 1,600 small updates fit into six minutes on two cores, enough to see both boxers move in a dream. Higher learning
# rates suit so few; short episodes give the curve more points.
_DEMO: dict[str, Any] = {
    **_ATARI_SMALL,
    **sizes(recurrent=128, units=128, layers=2, depth=8),
    **_learning_rates(6e-4, 2e-4, 2e-4),
    "env.name": "ALE/Boxing-v5",
    "env.time_limit": 400,
    "world_model.rssm.stoch": 16,
    "world_model.rssm.classes": 16,
    "replay.batch_size": 8,
    "replay.batch_length": 20,
    "replay.sampling": "steps",
    "behavior.horizon": 10,
    "training.steps": 7_000,
    "training.prefill": 1_000,
    "training.pretrain": 100,
    "training.train_every": 4,
    "training.eval_every": 1_000,
    "training.eval_episodes": 2,
    "training.video_every": 3_000,
    "training.checkpoint_every": 2_000,
    "training.log_every": 100,
}

# MinAtar's games from pixels on a laptop: small, with the learning rates of the demo. Episodes of a few steps ask for
# sequences that cross their borders. Not tuned: docs/results.md has three runs, and what was learned from them.
# Nothing of it comes from the release.
_MINATAR: dict[str, Any] = {
    **sizes(recurrent=128, units=128, layers=2, depth=8),
    **_learning_rates(6e-4, 2e-4, 2e-4),
    "env.time_limit": 5_000,
    "world_model.rssm.stoch": 16,
    "world_model.rssm.classes": 16,
    "world_model.kl.scale": 0.1,
    "world_model.loss_scales.discount": 5.0,
    "behavior.actor.entropy": 3e-3,
    "behavior.horizon": 10,
    "replay.batch_length": 24,
    "replay.sampling": "steps",
    "training.steps": 100_000,
    "training.prefill": 2_000,
    "training.pretrain": 100,
    "training.train_every": 8,
    "training.eval_every": 10_000,
    "training.eval_episodes": 10,
    "training.video_every": 25_000,
    "training.checkpoint_every": 5_000,
}

_CRAFTER: dict[str, Any] = {
    "world_model.discount": 0.999,
    **{f"{part}.layer_norm": True for part in ("world_model.rssm", *_CNNS, *_MLPS)},
    "behavior.actor.entropy": 3e-3,
    **_learning_rates(1e-4, 1e-4, 1e-4),
}

_DMC: dict[str, Any] = {
    "env.action_repeat": 2,
    "training.eval_every": 10_000,
    "training.video_every": 10_000,
    "training.prefill": 1_000,
    "training.pretrain": 101,
    "replay.prioritize_ends": False,
    "world_model.predict_discount": False,
    "world_model.reward_transform": "identity",
    "world_model.kl.free_nats": 1.0,
    "behavior.actor.entropy": 1e-4,
    **sizes(recurrent=200),
    **_learning_rates(3e-4, 8e-5, 8e-5),
}


# Tuned on CartPole and Pendulum for minutes of CPU time; nothing of it comes from the release. With so few updates the
# critic must be quick, or the actor settles on what is best for the next second: small normalised rewards, a target
# critic that follows closely. What entries of an observation are measured in must not matter.
_VECTOR: dict[str, Any] = {
    "training.steps": 20_000,
    "training.prefill": 1_000,
    "training.pretrain": 100,
    "training.train_every": 4,
    "training.eval_every": 1_000,
    "training.eval_episodes": 5,
    "training.checkpoint_every": 5_000,
    "training.video_every": 0,
    "replay.batch_length": 32,
    "replay.sampling": "steps",
    "training.precision": "fp32",  # bf16 is no faster at these sizes
    "world_model.normalize_vectors": True,
    "world_model.rssm.stoch": 8,
    "world_model.rssm.classes": 8,
    "world_model.reward_transform": "identity",
    "world_model.kl.scale": 0.1,
    "world_model.loss_scales.discount": 5.0,
    "behavior.actor.entropy": 1e-2,
    "behavior.critic.target_update_interval": 1,
    "behavior.critic.target_tau": 0.05,
    "behavior.reward_norm.momentum": 0.99,
    "behavior.reward_norm.scale": 0.05,
    **sizes(recurrent=64, units=64, layers=2),
    **_learning_rates("linear(1e-3,1e-4,20000)", "linear(3e-4,3e-5,20000)", "linear(1e-3,1e-4,20000)"),
}

_DEBUG: dict[str, Any] = {
    "training.precision": "fp32",
    "env.max_restarts_per_hour": 0,  # Whoever tries things out wants to see the first error.
    "training.max_nonfinite_updates": 0,
    "env.time_limit": 100,
    "training.steps": 1_000,
    "training.prefill": 200,
    "training.eval_every": 500,
    "training.log_every": 100,
    "training.checkpoint_every": 500,
    "training.video_every": 500,
    "training.compile": "off",
    "replay.batch_size": 4,
    "replay.batch_length": 10,
    "replay.sampling": "steps",
    "world_model.rssm.stoch": 4,
    "world_model.rssm.classes": 4,
    "behavior.horizon": 4,
    **sizes(recurrent=16, units=16, layers=1, depth=4),
}

_DEFINITIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("atari", "The release's Atari settings: 22M parameters, 200M frames.", _ATARI),
    (
        "atari-paper",
        "The paper's Table D.1 and equation 2, with the article's actor schedules: batch 50, 18 actions.",
        _ATARI_PAPER,
    ),
    ("article", "atari-paper with the article's world model loss, as it is written; see docs/variants.md.", _ARTICLE),
    ("dreamer-v1", "The predecessor: the defaults of Dreamer's code, continuous control from images.", _DREAMER_V1),
    ("atari-small", "Atari on a CPU: 4.2M parameters, otherwise as atari.", _ATARI_SMALL),
    ("atari-laptop", "Atari on two CPU cores: 3M parameters, the world model learns first.", _ATARI_LAPTOP),
    ("minatar", "MinAtar's games as pictures: 0.9M parameters, 91 minutes on one thread without AVX-512.", _MINATAR),
    ("crafter", "The release's settings for Crafter: larger, layer norm everywhere.", _CRAFTER),
    ("dmc-vision", "The release's settings for continuous control from images alone.", _DMC | _seeing("images")),
    ("dmc-proprio", "The same from vectors alone, such as positions and velocities.", _DMC | _seeing("vectors")),
    ("vector", "Classic control from vectors: small, minutes on a CPU.", _VECTOR),
    ("demo", "What `reverie demo` trains: Boxing, for minutes on two cores.", _DEMO),
    ("debug", "Tiny, for trying things out: runs in seconds and learns nothing.", _DEBUG),
)

PRESETS: dict[str, Preset] = {
    name: Preset(name, description, set_fields(Config(), settings)) for name, description, settings in _DEFINITIONS
}
"""By name, in the order in which they are listed."""


def preset(name: str) -> Config:
    """The configuration of a preset.

    Raises:
        ConfigError: if there is none of that name; the nearest ones are given.
    """
    found = PRESETS.get(name.replace("_", "-"))
    if found is None:
        near = nearest(name, PRESETS, 1)
        ending = did_you_mean(near) if near else f"; the presets are {', '.join(PRESETS)}."
        raise ConfigError(f"There is no preset '{name}'{ending}")
    return found.config


def default_preset(env_name: str, spec: EnvSpec | None = None) -> str:
    """Name of the preset for an environment when the user gives none.

    Names decide where they can: `ALE/` is atari, `MinAtar/` is minatar, Crafter is crafter. Otherwise what the
    environment offers does: without images it is vector; images are dmc-vision with continuous actions and crafter
    with discrete ones. Without a `spec` only the name is looked at, and what is not known is vector.
    """
    if env_name.startswith("ALE/"):
        return "atari"
    if env_name.startswith("MinAtar/"):
        return "minatar"
    if "crafter" in env_name.lower():
        return "crafter"
    if spec is None or not any(observation.is_image for observation in spec.observations.values()):
        return "vector"
    return "dmc-vision" if spec.action.kind == "continuous" else "crafter"

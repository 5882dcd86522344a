"""How learning is proved: the settings of a small agent, and what it scores after some minutes.

`benchmarks/learning_proofs.py` runs the same, with parts of the algorithm cut out, to show that the proofs can fail.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import reverie
from reverie.training import evaluate
from tests.helpers.environments import Catch, Recall

MLPS = (
    *(f"world_model.{name}" for name in ("encoder.mlp", "decoder.mlp", "reward_head", "discount_head")),
    *("behavior.actor", "behavior.critic"),
)

SETTINGS: dict[str, Any] = {
    "steps": 5_500,
    "prefill": 1_000,
    "pretrain": 200,
    "train_every": 4,
    "eval_every": 0,
    "video_every": 0,
    "checkpoint_every": 100_000,
    "seed": 1,
    "precision": "fp32",
    "env.time_limit": 0,
    "replay.sampling": "steps",
    "replay.batch_size": 16,
    "replay.batch_length": 12,
    "world_model.encoder.cnn_depth": 4,
    "world_model.decoder.cnn_depth": 4,
    "world_model.rssm.stoch": 8,
    "world_model.rssm.classes": 8,
    "world_model.rssm.deter": 64,
    "world_model.rssm.hidden": 64,
    "world_model.reward_transform": "identity",
    "world_model.predict_discount": False,
    "world_model.discount": 0.95,
    "world_model.kl.scale": 1.0,
    "world_model.optimizer.lr": 2e-3,
    "behavior.horizon": 8,
    "behavior.actor.entropy": 3e-3,
    "behavior.actor.optimizer.lr": 1e-3,
    "behavior.critic.optimizer.lr": 1e-3,
    "behavior.critic.target_update_interval": 20,
    **{f"{mlp}.units": 64 for mlp in MLPS},
    **{f"{mlp}.layers": 2 for mlp in MLPS},
}

CUTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "actor": {"behavior.actor.optimizer.lr": 0.0},
    "kl": {"world_model.kl.scale": 0.0},
}
"""What can be cut out of the algorithm: by what name, and how."""

EPISODES = 20


class Outcome(NamedTuple):
    """Mean returns over `EPISODES` episodes."""

    score: float
    random: float
    best: float


def learn(env: type[Catch] | type[Recall], logdir: Path, **changes: Any) -> Outcome:
    """Train from scratch, then evaluate with the actor's mode."""
    agent = reverie.train(env, preset="debug", logdir=logdir, **{**SETTINGS, **changes})
    episodes = evaluate(agent, agent.config.env, EPISODES, seed=99, factory=env)
    task = env()
    return Outcome(float(np.mean([e.return_ for e in episodes])), task.random_score, task.best_score)

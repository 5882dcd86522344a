"""A run of seconds that has everything a long one has, for measurements that need hundreds of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reporting import messages

import reverie
from reverie import Callback

ENV = "MinAtar/Breakout-v1"
SETTINGS: dict[str, Any] = {
    "seed": 1,
    "threads": 1,
    "precision": "fp32",
    "steps": 400,
    "prefill": 300,
    "pretrain": 4,
    "train_every": 25,
    "log_every": 50,
    "eval_every": 200,
    "eval_episodes": 1,
    "video_every": 200,
    "checkpoint_every": 50,
    "keep_checkpoints": 2,
    "replay.capacity": 350,
    "replay.batch_size": 2,
    "replay.batch_length": 6,
    "behavior.horizon": 3,
    "world_model.encoder.cnn_depth": 2,
    "world_model.decoder.cnn_depth": 2,
    "world_model.rssm.deter": 8,
    "world_model.rssm.hidden": 8,
    "world_model.rssm.stoch": 2,
    "world_model.rssm.classes": 4,
    "world_model.reward_head.units": 8,
    "world_model.discount_head.units": 8,
    "behavior.actor.units": 8,
    "behavior.critic.units": 8,
}


def train(folder: Path, resume: bool = False, callbacks: Sequence[Callback] = (), **more: Any) -> list[str]:
    """Train or resume the run.

    Returns:
        What it said.
    """
    with messages() as said:
        settings = {**SETTINGS, **more}
        reverie.train(ENV, "minatar", logdir=folder, resume=resume, callbacks=callbacks, quiet=True, **settings)
    return said

"""Small runs to play with: pictures (MinAtar, whose state is saved) and vectors (CartPole, which is stepped again)."""

from pathlib import Path

import pytest

import reverie

TINY = {
    "steps": 300,
    "prefill": 250,
    "pretrain": 1,
    "train_every": 50,
    "eval_every": 0,
    "video_every": 0,
    "log_every": 50,
    "threads": 1,
    "env.num_envs": 1,
    "replay.batch_size": 2,
    "replay.batch_length": 8,
    "replay.sampling": "steps",
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the runs `breakout` and `cartpole`."""
    folder = tmp_path_factory.mktemp("runs")
    for name, env in (("breakout", "MinAtar/Breakout-v1"), ("cartpole", "CartPole-v1")):
        reverie.train(env, "debug", logdir=folder / name, loggers=[], quiet=True, **TINY)
    return folder

"""Speed of the whole training loop, and the time of its phases."""

import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from reverie.bench.examples import example_env
from reverie.bench.measuring import spread
from reverie.config import Config
from reverie.runs.metrics import read_metrics
from reverie.runs.provenance import Launch
from reverie.training.start import train_config

ROWS = 10
"""Largest number of rows of metrics that the updates are spread over. Each row is one measurement."""
WARM_UP = 2
"""Number of rows that are not counted: the first updates allocate memory and choose kernels."""
PREFILL = 500
"""Smallest number of random steps in the replay before learning."""


def measure_loop(config: Config, preset: str, updates: int) -> dict[str, Any]:
    """Train in a temporary folder, and return settings and the `summary` of the time that the run measures itself.

    The loop is the real one, with environments, replay on disk and metrics, but without pretraining, evaluations,
    videos and checkpoints. Sequences are drawn from unfinished episodes, too, so that a short prefill is enough.
    """
    config = short_run(config, preset, updates)
    training = config.training
    with tempfile.TemporaryDirectory(prefix="reverie-bench-") as folder:
        try:
            train_config(config, folder, origin=Launch(preset), loggers=())
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Stopped; nothing was kept.") from None
        rows = read_metrics(Path(folder))
    return {
        "env": config.env.name,
        "num_envs": config.env.num_envs,
        "batch": config.replay.batch_size,
        "length": config.replay.batch_length,
        "train_every": training.train_every,
        "train_steps": training.train_steps,
        **summary(rows, training.prefill + WARM_UP * training.log_every),
    }


def short_run(config: Config, preset: str, updates: int) -> Config:
    """Return the configuration of a run whose rows of metrics cover equally many updates each."""
    training = config.training
    calls = math.ceil(updates / training.train_steps)
    calls_per_row = math.ceil(calls / ROWS)
    row = calls_per_row * training.train_every
    prefill = math.ceil(max(PREFILL, config.env.num_envs * config.replay.batch_length) / row) * row
    steps = prefill + (WARM_UP + math.ceil(calls / calls_per_row)) * row
    return config.override(
        **{"env.name": example_env(config, preset), "replay.sampling": "steps"},
        threads=training.threads or torch.get_num_threads(),
        steps=steps,
        prefill=prefill,
        pretrain=0,
        pretrain_world_model=0,
        log_every=row,
        eval_every=0,
        video_every=0,
        checkpoint_every=steps + 1,
    )


def summary(rows: list[dict[str, float]], first: int) -> dict[str, Any]:
    """Summarise the rows after agent step `first`.

    Returns:
        The number of `updates`, and the spreads of `frames_per_second`, `updates_per_second`, `PHASE_share` for each
        phase that the trainer times, and `other_share`, the rest.
    """
    counted = [row for row in rows if row["step"] > first]
    before = max((row["updates"] for row in rows if row["step"] <= first), default=0)
    result: dict[str, Any] = {"updates": int(counted[-1]["updates"] - before)}
    for rate, metric in (("frames_per_second", "perf/fps"), ("updates_per_second", "perf/updates_per_second")):
        result |= spread(rate, [row[metric] for row in counted])
    phases = sorted({key for row in counted for key in row if key.startswith("time/") and key.endswith("_share")})
    for phase in phases:
        result |= spread(phase.removeprefix("time/"), [row.get(phase, 0.0) for row in counted])
    return result | spread("other_share", [1 - sum(row.get(phase, 0.0) for phase in phases) for row in counted])

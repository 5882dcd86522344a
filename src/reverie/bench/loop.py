"""How fast the whole training loop is, and what it spends its time on."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from reverie.bench.examples import example_env
from reverie.bench.spread import spread
from reverie.config import Config
from reverie.runs.metrics import read_metrics
from reverie.runs.provenance import Launch
from reverie.runs.run_folder import RunFolder
from reverie.training.build import build_trainer
from reverie.training.stop_signal import Interrupted

ROWS = 10
"""Rows of metrics that the updates are spread over, at most; each is one measurement."""
WARM_UP = 2
"""Rows that are not counted: the first updates allocate memory and choose kernels."""
PREFILL = 500
"""Random steps, at least."""

_SHARE = "_share"


def measure_loop(config: Config, preset: str, updates: int) -> dict[str, Any]:
    """Train in a temporary folder, and read what the trainer measures itself.

    The loop is the real one, with environments, replay on disk and metrics. There are no evaluations, videos or
    checkpoints in between, little prefill, and sequences are drawn from unfinished episodes, too, so that learning
    starts at once. The number of threads stays what it is, whatever else trains on the machine.

    Args:
        config: all other settings.
        preset: its name; it decides which environment is taken if none is named.
        updates: at least so many are measured.

    Returns:
        `env`, `num_envs`, `batch`, `length`, `train_every` (agent steps) and `train_steps` (updates each time);
        `updates` that were measured; the spreads over the rows of metrics of `frames_per_second`,
        `updates_per_second`, `PHASE_share` for each phase that the trainer times, and `other_share`, the rest.

    Raises:
        EnvError: if the environment is unknown, cannot be created, or fails.
        KeyboardInterrupt: if it was stopped.
    """
    config = short_run(config, preset, updates)
    with tempfile.TemporaryDirectory(prefix="reverie-bench-") as folder, RunFolder.create(folder, config) as run:
        try:
            build_trainer(config, run, launch=Launch(preset)).train()
        except Interrupted:
            raise KeyboardInterrupt("Stopped; nothing was kept.") from None
        rows = read_metrics(Path(folder))
    first = config.training.prefill + WARM_UP * config.training.log_every
    return {
        "env": config.env.name,
        "num_envs": config.env.num_envs,
        "batch": config.replay.batch_size,
        "length": config.replay.batch_length,
        "train_every": config.training.train_every,
        "train_steps": config.training.train_steps,
        **summary(rows, first),
    }


def short_run(config: Config, preset: str, updates: int) -> Config:
    """The configuration of a run whose rows of metrics cover equally many updates each."""
    training = config.training
    blocks = -(-updates // training.train_steps)
    per_row = -(-blocks // ROWS)
    row = per_row * training.train_every
    needed = max(PREFILL, config.env.num_envs * config.replay.batch_length)
    prefill = -(-needed // row) * row
    steps = prefill + (WARM_UP + -(-blocks // per_row)) * row
    return config.override(
        **{"env.name": example_env(config, preset), "replay.sampling": "steps"},
        threads=training.threads or torch.get_num_threads(),
        steps=steps,
        prefill=prefill,
        pretrain=0,
        log_every=row,
        eval_every=0,
        video_every=0,
        checkpoint_every=steps + 1,
    )


def summary(rows: list[dict[str, float]], first: int) -> dict[str, Any]:
    """What rows of metrics say about time.

    Args:
        rows: as from `read_metrics`.
        first: agent steps; only rows after it count.
    """
    counted = [row for row in rows if row["step"] > first]
    before = [row["updates"] for row in rows if row["step"] <= first]
    names = sorted({key for row in counted for key in row if key.startswith("time/") and key.endswith(_SHARE)})
    shares = {name: [row.get(name, 0.0) for row in counted] for name in names}
    other = [1 - sum(of_row) for of_row in zip(*shares.values(), strict=True)]
    result: dict[str, Any] = {"updates": int(counted[-1]["updates"] - max(before, default=0))}
    for rate in ("fps", "updates_per_second"):
        result |= spread(rate, [row[f"perf/{rate}"] for row in counted])
    for name, values in shares.items():
        result |= spread(name.removeprefix("time/"), values)
    return result | spread("other_share", other)

"""How fast the replay takes steps and gives batches, what that is of an update, and the memory that it needs."""

import os
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from reverie.agents import build_agent
from reverie.bench.examples import example_spec, random_batch
from reverie.bench.machine import prepare, resident_mib
from reverie.bench.spread import rounded, spread
from reverie.bench.train_step import train_step_seconds
from reverie.config import Config
from reverie.replay import REPLAY, ReplayBuffer
from reverie.specs import EnvSpec

EPISODE = 1000
"""Steps of the made-up episodes; fewer where not so many are stored."""
COLD_BATCHES = 20
UPDATES = 3
"""Updates that are timed for comparison."""

_VARIETY = 256  # Different steps. They are stored again and again.


def measure_replay(config: Config, preset: str, steps: int, batches: int, folder: Path) -> dict[str, Any]:
    """Fill a replay with made-up steps, open it again, and draw batches from it as training does.

    Warm batches follow one another, with whatever the operating system still holds of the files that were just written:
    all, if they fit its memory. Before each cold batch it is asked to forget them; a disk, or the host of a virtual
    machine, may remember them all the same.

    Args:
        config: batch, sampling and number of environments are taken from it, and the agent for the comparison.
        preset: its name; it decides what the steps look like.
        steps: stored, of all environments together; more than `batch_length` of each.
        batches: warm ones that are timed, after as many that are not.
        folder: an empty one, for the replay.

    Returns:
        `steps`, `batch` and `length`; `added_per_second` (steps), `reopen_seconds`, `disk_bytes_per_step`;
        `resident_mib_added` by reopening and all batches (None where /proc does not say); the spreads of
        `cold_batch_seconds` (absent where the operating system cannot be asked), `warm_batch_seconds` and
        `train_step_seconds`; from their medians `cold_samples_per_second`, `warm_samples_per_second` (steps in
        batches) and `share_of_train_step`, that of a warm batch.

    Raises:
        ReplayError: if no batch can be drawn, or the disk is full.
    """
    spec, num_envs = example_spec(preset), config.env.num_envs
    settings = replace(config.replay, capacity=steps)
    added_per_second = _fill(ReplayBuffer(folder / REPLAY, spec.step, settings, num_envs), spec, steps, num_envs)
    before = resident_mib()
    start = time.perf_counter()
    replay = ReplayBuffer(folder / REPLAY, spec.step, settings, num_envs)
    reopen_seconds = time.perf_counter() - start
    rng = np.random.default_rng(0)
    # Warm ones first: of a large replay, what was forgotten would not come back into the cache by itself.
    warm = [_batch_seconds(replay, rng) for _ in range(2 * batches)][batches:]
    cold = [_batch_seconds(replay, rng) for _ in range(COLD_BATCHES) if _forget(folder)]
    after = resident_mib()
    replay.close()
    prepare(config)
    updates = train_step_seconds(build_agent(config, spec, seed=0), UPDATES)
    samples = settings.batch_size * settings.batch_length
    result = {
        "steps": replay.num_steps,
        "batch": settings.batch_size,
        "length": settings.batch_length,
        "added_per_second": rounded(added_per_second),
        "reopen_seconds": rounded(reopen_seconds),
        "disk_bytes_per_step": round(sum(path.stat().st_blocks * 512 for path in folder.iterdir()) / steps),
        "resident_mib_added": round(after - before, 1) if before is not None and after is not None else None,
    }
    for name, seconds in (("cold", cold), ("warm", warm)):
        if seconds:
            result |= spread(f"{name}_batch_seconds", seconds)
            result[f"{name}_samples_per_second"] = rounded(samples / median(seconds))
    share = rounded(median(warm) / median(updates))
    return {**result, **spread("train_step_seconds", updates), "share_of_train_step": share}


def _fill(replay: ReplayBuffer, spec: EnvSpec, steps: int, num_envs: int) -> float:
    """Store the steps; how many a second, the commit at the end included."""
    made_up = random_batch(spec, _VARIETY, num_envs)
    rows = -(-steps // num_envs)
    episode = min(EPISODE, rows)
    start = time.perf_counter()
    for row in range(rows):
        step = {key: values[row % _VARIETY] for key, values in made_up.items()}
        step["is_first"] = np.full(num_envs, row % episode == 0)
        step["is_last"] = step["is_terminal"] = np.full(num_envs, row % episode == episode - 1)
        replay.add(step)
    replay.close()
    return rows * num_envs / (time.perf_counter() - start)


def _batch_seconds(replay: ReplayBuffer, rng: np.random.Generator) -> float:
    start = time.perf_counter()
    replay.sample(rng)
    return time.perf_counter() - start


def _forget(folder: Path) -> bool:
    """Ask the operating system to drop the files from its cache; False where it cannot be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return True

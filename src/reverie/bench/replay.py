"""Speed and memory of the replay."""

import os
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from reverie.agents import build_agent
from reverie.bench.examples import example_spec, random_batch
from reverie.bench.machine import prepare, resident_mib
from reverie.bench.timing import rounded, seconds_of, spread
from reverie.bench.train_step import train_step_seconds
from reverie.config import Config
from reverie.replay import REPLAY, ReplayBuffer
from reverie.specs import EnvSpec

EPISODE = 1000
"""Steps of an episode; fewer where not so many are stored."""
COLD_BATCHES = 20
UPDATES = 3
"""Updates that are timed for comparison."""

_VARIETY = 256  # Different steps. They are stored again and again.


def measure_replay(config: Config, preset: str, steps: int, batches: int, folder: Path) -> dict[str, Any]:
    """Fill a replay with random steps, open it again, and draw batches from it as training does.

    Warm batches follow one another, with whatever the operating system still holds of the files that were just written:
    all, if they fit its memory. Before each cold batch it is asked to forget them; a disk, or the host of a virtual
    machine, may remember them all the same.

    Args:
        config: batch, sampling and number of environments are taken from it, and the agent for the comparison.
        preset: its name; it decides what the steps look like.
        steps: stored, of all environments together; more than `batch_length` of each.
        batches: warm ones that are timed, after as many that are not.
        folder: an empty one, for the replay.
    """
    spec, num_envs = example_spec(preset), config.env.num_envs
    settings = replace(config.replay, capacity=steps)

    def opened() -> ReplayBuffer:
        return ReplayBuffer(folder / REPLAY, spec.step, settings, num_envs)

    filling = seconds_of(lambda: fill(opened(), spec, steps, num_envs))
    before, rng = resident_mib(), np.random.default_rng(0)
    reopening = seconds_of(lambda: opened().close())
    replay = opened()
    # Warm ones first: of a large replay, what was forgotten would not come back into the cache by itself.
    warm = [seconds_of(lambda: replay.sample(rng)) for _ in range(2 * batches)][batches:]
    cold = [seconds_of(lambda: replay.sample(rng)) for _ in range(COLD_BATCHES) if drop_from_cache(folder)]
    after = resident_mib()
    replay.close()
    prepare(config)
    updates = train_step_seconds(build_agent(config, spec, seed=0), UPDATES)
    samples = settings.batch_size * settings.batch_length
    result = {
        "steps": replay.num_steps,
        "batch": settings.batch_size,
        "length": settings.batch_length,
        "added_per_second": rounded(replay.num_steps / filling),
        "reopen_seconds": rounded(reopening),
        "disk_bytes_per_step": round(sum(path.stat().st_blocks * 512 for path in folder.iterdir()) / steps),
        "resident_mib_added": None if before is None or after is None else round(after - before, 1),
    }
    for name, seconds in (("cold", cold), ("warm", warm)):
        if seconds:
            result |= spread(f"{name}_batch_seconds", seconds)
            result[f"{name}_samples_per_second"] = rounded(samples / median(seconds))
    share = rounded(median(warm) / median(updates))
    return {**result, **spread("train_step_seconds", updates), "share_of_train_step": share}


def fill(replay: ReplayBuffer, spec: EnvSpec, steps: int, num_envs: int) -> None:
    """Store random steps, at least so many, and close the replay."""
    random_steps, rows = random_batch(spec, _VARIETY, num_envs), -(-steps // num_envs)
    episode = min(EPISODE, rows)
    for row in range(rows):
        step = {key: values[row % _VARIETY] for key, values in random_steps.items()}
        step["is_first"] = np.full(num_envs, row % episode == 0)
        step["is_last"] = step["is_terminal"] = np.full(num_envs, row % episode == episode - 1)
        replay.add(step)
    replay.close()


def drop_from_cache(folder: Path) -> bool:
    """Ask the operating system to drop the files from its cache; False where it cannot be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True

"""Speed and memory of the replay."""

from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from reverie.bench.examples import example_spec, random_batch
from reverie.bench.measuring import resident_mib, rounded, seconds_of, spread
from reverie.config import Config
from reverie.replay import REPLAY, ReplayBuffer
from reverie.specs import EnvSpec

EPISODE = 1000
"""Steps of an episode; fewer where not so many are stored."""
VARIETY = 256
"""Different steps, which are stored again and again."""


def measure_replay(config: Config, preset: str, steps: int, batches: int, folder: Path) -> dict[str, Any]:
    """Fill a replay with random steps, open it again, and draw batches from it as training does.

    The operating system still holds what it can of the file that was just written: all, if that fits its memory.

    Args:
        config: batch, sampling and number of environments are taken from it.
        preset: its name; it decides what the steps look like.
        steps: stored, of all environments together; more than `batch_length` of each.
        batches: those that are timed, after as many that are not.
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
    warm = [seconds_of(lambda: replay.sample(rng)) for _ in range(2 * batches)][batches:]
    after = resident_mib()
    replay.close()
    return {
        "steps": replay.num_steps,
        "batch": settings.batch_size,
        "length": settings.batch_length,
        "added_per_second": rounded(replay.num_steps / filling),
        "reopen_seconds": rounded(reopening),
        "disk_bytes_per_step": round(sum(path.stat().st_blocks * 512 for path in folder.iterdir()) / steps),
        "resident_mib_added": None if before is None or after is None else round(after - before, 1),
        **spread("warm_batch_seconds", warm),
        "warm_samples_per_second": rounded(settings.batch_size * settings.batch_length / median(warm)),
    }


def fill(replay: ReplayBuffer, spec: EnvSpec, steps: int, num_envs: int) -> None:
    """Store random steps, at least so many, and close the replay."""
    random_steps, rows = random_batch(spec, VARIETY, num_envs), -(-steps // num_envs)
    episode = min(EPISODE, rows)
    for row in range(rows):
        step = {key: values[row % VARIETY] for key, values in random_steps.items()}
        step["is_first"] = np.full(num_envs, row % episode == 0)
        step["is_last"] = step["is_terminal"] = np.full(num_envs, row % episode == episode - 1)
        replay.add(step)
    replay.close()

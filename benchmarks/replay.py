"""Fill a replay as training does, open it in a new process, and compare speed, memory and disk with their limits.

    python benchmarks/replay.py --steps 2000000 --folder /tmp --out results/replay.jsonl

Steps have the shapes of Atari, and a commit follows every 25,000 of them, as at a checkpoint. Two million take 9 GB in
the folder while the program runs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from reverie.config import ReplayConfig
from reverie.provenance import commit
from reverie.replay import REPLAY, ReplayBuffer
from reverie.specs import STEP_KEYS, ArraySpec

SPECS = {"image": ArraySpec((64, 64, 1), "uint8"), "action": ArraySpec((18,), "float32"), **STEP_KEYS}
RAW = sum(np.dtype(spec.dtype).itemsize * spec.size for spec in SPECS.values())
COMMIT_EVERY = 25_000
EPISODE = 900
LIMITS = {"open_seconds": 5.0, "resident_mib": 200.0, "batch_milliseconds": 4.0, "disk_per_raw": 1.05}


def fill(path: Path, steps: int, num_envs: int) -> dict[str, float]:
    """Add steps, with a commit at each checkpoint."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (256, num_envs, 64, 64, 1), np.uint8)
    action, reward = np.zeros((num_envs, 18), np.float32), np.zeros(num_envs, np.float32)
    flag = {value: np.full(num_envs, value) for value in (False, True)}
    replay = ReplayBuffer(path, SPECS, ReplayConfig(), num_envs)
    started, in_commits, at_commit = time.perf_counter(), [], COMMIT_EVERY
    for row in range(steps // num_envs):
        step = {"image": images[row % 256], "action": action, "reward": reward, "is_terminal": flag[False]}
        is_first, is_last = flag[row % EPISODE == 0], flag[row % EPISODE == EPISODE - 1]
        replay.add({**step, "is_first": is_first, "is_last": is_last})
        if (row + 1) * num_envs >= at_commit:
            before = time.perf_counter()
            replay.commit()
            in_commits.append(time.perf_counter() - before)
            at_commit += COMMIT_EVERY
    seconds = time.perf_counter() - started
    replay.close()
    return {
        "steps_per_second": round(steps / seconds),
        "steps_per_second_between_commits": round(steps / (seconds - sum(in_commits))),
        "commit_seconds_median": round(float(np.median(in_commits)), 4) if in_commits else 0.0,
        "disk_bytes_per_step": round(path.stat().st_size / steps, 1),
        "disk_per_raw": round(path.stat().st_size / steps / RAW, 4),
    }


def reopen(path: Path, num_envs: int, batches: int) -> dict[str, float]:
    """Open the replay in this process, which holds nothing else, and draw batches."""
    before = time.perf_counter()
    replay = ReplayBuffer(path, SPECS, ReplayConfig(), num_envs)
    opened = time.perf_counter() - before
    rng, batch = np.random.default_rng(0), None
    seconds = []
    for number in range(2 * batches):
        if number % 2 == 0:
            draws = rng.bit_generator.state
        else:
            rng.bit_generator.state = draws  # The same windows again, which the system holds in memory.
        before = time.perf_counter()
        batch = replay.sample(rng, batch)
        seconds.append(time.perf_counter() - before)
    replay.close()
    return {
        "open_seconds": round(opened, 3),
        "batch_milliseconds": round(1e3 * float(np.median(seconds[1::2])), 2),
        "first_batch_milliseconds": round(1e3 * float(np.median(seconds[0::2])), 2),
        "resident_mib": round(psutil.Process().memory_info().rss / 2**20, 1),
    }


def main() -> int:
    """Measure, print, and compare with the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--envs", type=int, default=1)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--out", type=Path, help="file that one line with the outcome is added to")
    parser.add_argument("--reopen", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reopen:
        print(json.dumps(reopen(options.reopen, options.envs, options.batches)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="replay-", dir=options.folder))
    try:
        row: dict[str, Any] = {"steps": options.steps, "envs": options.envs, "commit": commit()}
        row |= {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        row |= fill(folder / REPLAY, options.steps, options.envs)
        again = [sys.executable, __file__, "--reopen", str(folder / REPLAY), "--envs", str(options.envs)]
        again += ["--batches", str(options.batches)]
        row |= json.loads(subprocess.run(again, check=True, capture_output=True, text=True).stdout)
    finally:
        shutil.rmtree(folder)
    row["missed"] = [name for name, limit in LIMITS.items() if row[name] > limit]
    if row["steps_per_second"] < 20_000:
        row["missed"].append("steps_per_second")
    print(json.dumps(row))
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return bool(row["missed"])


if __name__ == "__main__":
    sys.exit(main())

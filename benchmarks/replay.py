"""Time and memory of a full replay: `python benchmarks/replay.py --steps 2000000 --folder DIR`.

Fills a replay with made-up Atari steps (images 64x64x1, 18 actions, episodes of 1000 steps), closes it, and measures in
a fresh process: seconds to reopen, milliseconds for a 16x50 batch as tensors, and resident memory after many batches.
Prints one JSON line. 2,000,000 steps take 8.4 GB of disk.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from reverie.config import ReplayConfig
from reverie.replay import Replay
from reverie.spaces import ActionSpec, ArraySpec, EnvSpec

SPEC = EnvSpec({"image": ArraySpec((64, 64, 1), "uint8")}, ActionSpec("discrete", (18,)))
EPISODE = 1000


def fill(folder: Path, steps: int) -> float:
    replay = Replay(folder, SPEC.step, ReplayConfig(capacity=max(steps, 1000)), 1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (256, 1, 64, 64, 1), dtype=np.uint8)
    actions = np.eye(18, dtype=np.float32)[:, None]
    started = time.perf_counter()
    for i in range(steps):
        replay.add(
            {
                "image": images[i % 256],
                "action": actions[i % 18],
                "reward": np.ones(1, np.float32),
                "is_first": np.array([i % EPISODE == 0]),
                "is_last": np.array([i % EPISODE == EPISODE - 1]),
                "is_terminal": np.array([i % EPISODE == EPISODE - 1]),
            }
        )
    replay.close()
    return steps / (time.perf_counter() - started)


def measure(folder: Path, steps: int, batches: int) -> dict[str, object]:
    process = psutil.Process()
    before = process.memory_info().rss
    started = time.perf_counter()
    replay = Replay(folder, SPEC.step, ReplayConfig(capacity=max(steps, 1000)), 1)
    opened = time.perf_counter() - started
    rng = np.random.default_rng(1)
    seconds = []
    for _ in range(batches):
        started = time.perf_counter()
        batch = {key: torch.from_numpy(value) for key, value in replay.sample(rng).items()}
        seconds.append(time.perf_counter() - started)
    assert batch["image"].shape == (50, 16, 64, 64, 1)
    warm = sorted(seconds[batches // 2 :])
    return {
        "steps": replay.num_steps,
        "reopen_seconds": round(opened, 4),
        "batch_ms_median": round(1e3 * statistics.median(warm), 3),
        "batch_ms_p99": round(1e3 * warm[int(0.99 * len(warm))], 3),
        "batches": batches,
        "resident_mib_added": round((process.memory_info().rss - before) / 2**20, 1),
        "disk_bytes_per_step": round(sum(p.stat().st_blocks * 512 for p in folder.rglob("*")) / max(1, steps)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="empty folder; removed at the end")
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--batches", type=int, default=2_000)
    parser.add_argument("--reopen", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reopen:
        print(json.dumps(measure(options.folder, options.steps, options.batches)))
        return
    rate = fill(options.folder, options.steps)
    command = [sys.executable, __file__, *sys.argv[1:], "--reopen"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(json.dumps({**json.loads(done.stdout.splitlines()[-1]), "added_per_second": round(rate)}))
    shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()

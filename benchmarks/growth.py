"""Does a long run grow? Memory, open files, threads and disk of a run of 200,000 steps, after it has warmed up.

    python benchmarks/growth.py --out results/growth.jsonl

A tiny agent on MinAtar's Breakout in a worker process, with everything on that a run does: checkpoints, evaluations,
videos, metrics, TensorBoard, a replay that is full after an eighth of the steps. What it takes is measured from
outside, at each row of metrics, the worker process included. Lines are fitted to the last three quarters of the steps.
Metrics and videos are records, which grow with every row; they are listed apart.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from reporting import Report, parser

SETTINGS = shlex.split(
    "--preset debug --seed 0 --threads 1 --env.num-envs 1 --env.parallel true --train-every 50 --prefill 500 "
    "--log-every 1000 --checkpoint-every 4000 --eval-every 8000 --eval-episodes 1 --video-every 8000"
)
RECORDS = ("metrics.jsonl", "tensorboard", "videos")
WARM = 0.25
MEGABYTE = 1 << 20


def size(path: Path) -> int:
    """Return the bytes on the disk of a file, or of all files below a folder; what vanishes meanwhile counts as 0."""
    total = 0
    for folder, _, names in os.walk(path) if path.is_dir() else [(path.parent, [], [path.name])]:
        for name in names:
            with suppress(FileNotFoundError):
                total += 512 * os.lstat(os.path.join(folder, name)).st_blocks
    return total


def measure(process: psutil.Process, folder: Path) -> dict[str, float]:
    """Return what the run takes now."""
    family = [process, *process.children(recursive=True)]
    records = sum(size(folder / name) for name in RECORDS)
    return {
        "memory_mib": sum(member.memory_full_info().uss for member in family) / MEGABYTE,
        "open_files": sum(member.num_fds() for member in family),
        "threads": sum(member.num_threads() for member in family),
        "disk_mib": (size(folder) - records) / MEGABYTE,
        "records_mib": records / MEGABYTE,
    }


def step_of(folder: Path) -> int:
    """Return the step of the newest row of metrics."""
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return int(json.loads(lines[-1])["step"])
    except (FileNotFoundError, IndexError, ValueError):
        return 0


def slopes(seen: list[dict[str, float]], steps: int) -> dict[str, Any]:
    """Return the range of each quantity after the warm-up, and its slope for 100,000 steps with standard error."""
    warm = [row for row in seen if row["step"] >= WARM * steps]
    at = np.array([row["step"] for row in warm]) / 1e5
    found = {}
    for name in seen[0].keys() - {"step"}:
        values = np.array([row[name] for row in warm])
        (slope, _), covariance = np.polyfit(at, values, 1, cov=True)
        found[name] = {
            "least": round(float(values.min()), 2),
            "most": round(float(values.max()), 2),
            "slope_per_100k_steps": round(float(slope), 3),
            "standard_error": round(float(np.sqrt(covariance[0, 0])), 3),
        }
    return found


def main() -> int:
    """Train, measure, fit."""
    options_parser = parser(__doc__)
    options_parser.add_argument("--steps", type=int, default=200_000)
    options_parser.add_argument("--env", default="MinAtar/Breakout-v1")
    options = options_parser.parse_args()
    report, seen = Report(options.out), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "run")
        command = [sys.executable, "-m", "reverie", "train", options.env, "--logdir", str(folder), *SETTINGS]
        command += ["--steps", str(options.steps), "--replay.capacity", str(options.steps // 8)]
        with Path(temporary, "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            watched, latest = psutil.Process(process.pid), 0
            while process.poll() is None:
                time.sleep(0.05)
                if (step := step_of(folder)) > latest:
                    latest = step
                    with suppress(psutil.NoSuchProcess):  # a worker of an evaluation that has just ended
                        seen.append({"step": step, **measure(watched, folder)})
        if process.returncode:
            raise SystemExit(Path(temporary, "log").read_text()[-2000:])
        row = {
            "env": options.env,
            "steps": options.steps,
            "measurements": len(seen),
            **slopes(seen, options.steps),
            "command": shlex.join(["reverie", *command[3:5], *command[7:]]),
        }
        report.write(row, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

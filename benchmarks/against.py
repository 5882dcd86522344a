"""Compare the time of training with that of another checkout, or without protection: pair by pair, interleaved.

    git worktree add ../before COMMIT
    python benchmarks/against.py ../before --rounds 8 --out results/against.jsonl
    python benchmarks/against.py --unprotected --rounds 8 --out results/against.jsonl
    python benchmarks/against.py --out results/against.jsonl

Each run trains on Boxing with one thread, from a cold start to its last checkpoint: collecting, the replay, updates,
metrics, and as many checkpoints for each step as by default. What counts is the time from the first row of metrics
after an update to the last one, as the run itself measures it, so that imports and the first compilation do not. The
first round warms up and is not counted. `--unprotected` compares with the same commit without checksums of steps and
without waiting for the disk (`unprotected.py`). Without either, one run tells which share of its time goes into its
replay, with all protection, and into checkpoints, of which the other runs have none in that time.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from reporting import Report, parser

from reverie.runs.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = shlex.split(
    "--preset atari-small --seed 0 --threads 1 --prefill 500 --replay.sampling steps --pretrain 0 --eval-every 0 "
    "--video-every 0 --log-every 100"
)
CHECKPOINT_EVERY = 25_000  # by default


def train(program: Sequence[str], checkout: Path, steps: int, folder: Path, *options: str) -> list[dict[str, float]]:
    """Train, and return the rows after the first update, each with the processor's seconds of the whole run."""
    command = [sys.executable, *program, "train", "ALE/Boxing-v5", "--logdir", str(folder), *SETTINGS, *options]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    before = os.times()
    subprocess.run([*command, "--steps", str(steps)], env=environment, check=True, capture_output=True)
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return [{**row, "cpu_seconds": cpu} for row in read_metrics(folder) if row["updates"]]


def times(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the seconds from the first row to the last, and those of the processor in all."""
    return {"seconds": rows[-1]["time"] - rows[0]["time"], "cpu_seconds": rows[0]["cpu_seconds"]}


def storage_cost(program: Sequence[str], steps: int, folder: Path) -> dict[str, float]:
    """Return the share of a run's time in all of its replay, and in checkpoints where they are due as by default."""
    rows = train(program, ROOT, steps, folder, "--checkpoint-every", str(steps // 2))
    seconds = {
        name: sum(row.get(f"time/{name}", 0.0) for row in rows[1:]) for name in ("replay", "sample", "checkpoint")
    }
    elapsed, num_steps = times(rows)["seconds"] - seconds["checkpoint"], rows[-1]["step"] - rows[0]["step"]
    return {
        "replay_share": round((seconds["replay"] + seconds["sample"]) / elapsed, 5),
        "checkpoint_seconds": round(seconds["checkpoint"], 3),
        "checkpoint_share": round(seconds["checkpoint"] / (elapsed / num_steps * CHECKPOINT_EVERY), 5),
    }


def revision(checkout: Path) -> str:
    """Return the commit of a checkout."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    return found.stdout.strip()


def main() -> int:
    """Train in both checkouts, interleaved, and compare."""
    options_parser = parser(__doc__)
    options_parser.add_argument("checkout", type=Path, nargs="?", help="worktree of another commit")
    options_parser.add_argument("--unprotected", action="store_true", help="compare with the same without protection")
    options_parser.add_argument("--rounds", type=int, default=8)
    options_parser.add_argument("--steps", type=int, default=1300)
    options = options_parser.parse_args()
    report, now = Report(options.out), ("now", ["-m", "reverie"], ROOT)
    if not (options.unprotected or options.checkout):
        with tempfile.TemporaryDirectory() as temporary:
            report.write(storage_cost(now[1], options.steps, Path(temporary, "run")), Path(temporary, "run"))
        return 0
    before = ("before", ["-m", "reverie"], options.checkout.resolve() if options.checkout else ROOT)
    commits = {"now": revision(ROOT), "before": revision(before[2])}
    if options.unprotected:
        before, commits["before"] = ("before", [str(ROOT / "benchmarks/unprotected.py")], ROOT), "unprotected"
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(options.rounds + 1):
            row = {}
            for name, program, checkout in (now, before) if number % 2 else (before, now):
                row[name] = times(train(program, checkout, options.steps, Path(temporary, f"{name}-{number}")))
            print(json.dumps(row), flush=True)
            found += [row] if number else []
        report.write(summarise(found, commits, options.steps), Path(temporary, "now-0"))
    return 0


def summarise(found: list[dict[str, Any]], commits: dict[str, str], steps: int) -> dict[str, Any]:
    """Return ratios of the times in both checkouts, pair by pair."""
    summary: dict[str, Any] = {**commits, "rounds": len(found)}
    for measure in ("seconds", "cpu_seconds"):
        ratios = np.array([row["now"][measure] / row["before"][measure] for row in found])
        error = float(ratios.std(ddof=1) / np.sqrt(len(ratios)))
        summary[f"{measure}_ratio_median"] = round(float(np.median(ratios)), 4)
        summary[f"{measure}_ratio_mean"] = round(float(ratios.mean()), 4)
        summary[f"{measure}_ratio_standard_error"] = round(error, 4)
        summary[f"{measure}_now"] = [round(row["now"][measure], 2) for row in found]
        summary[f"{measure}_before"] = [round(row["before"][measure], 2) for row in found]
    summary |= {"command": shlex.join(["reverie", "train", "ALE/Boxing-v5", *SETTINGS, "--steps", str(steps)])}
    return summary


if __name__ == "__main__":
    sys.exit(main())

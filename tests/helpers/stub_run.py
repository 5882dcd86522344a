"""Fake training process of a sweep: write the files of a run quickly, and fail on request.

Usage: stub_run.py RUN CONFIG STEPS HOW PAUSE. It takes ten steps a row, continues from its last row, and notes in
RUN/launches each start, each end, and when these were.
"""

import json
import os
import shutil
import signal
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from reverie.sweeps.child import follow_parent


def main(run: Path, config: Path, steps: int, how: str, pause: float) -> None:
    follow_parent(grace=0.5)
    launches = run / "launches"
    metrics = run / "metrics.jsonl"
    step = json.loads(metrics.read_text().splitlines()[-1])["step"] if metrics.exists() else 0
    note(launches, "start", step)

    def save(*_: Any) -> None:
        checkpoint(run, step)
        note(launches, "stop", step)
        os._exit(143)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if how == "deaf" else save)
    shutil.copy(config, run / "config.toml")
    (run / "replay.db").write_text("much")
    while step < steps:
        time.sleep(pause)
        step += 10
        if how == "fails silently":
            sys.exit(3)
        if how == "fails":
            print("error: The motor is on fire.", file=sys.stderr)
            note(launches, "failure", step)
            sys.exit(1)
        if how == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "leaves":
            sys.exit(0)
        score = float(step)
        if how == "scores":  # best at a horizon of 12, and better at each step
            score = step / steps - abs(tomllib.loads(config.read_text())["behavior"]["horizon"] - 12)
        row = {
            "step": step,
            "frames": step,
            "time": step / 100,
            "updates": step,
            "perf/fps": 100,
            "eval/return": score,
        }
        with metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if how == "saves":
            checkpoint(run, step)
    while how == "hangs":
        time.sleep(0.1)
    checkpoint(run, step)
    note(launches, "end", step)


def checkpoint(run: Path, step: int) -> None:
    (run / "checkpoints" / f"step-{step:09d}").mkdir(parents=True, exist_ok=True)


def note(launches: Path, what: str, step: int) -> None:
    with launches.open("a") as file:
        file.write(f"{what} {step} {os.getpid()} {time.time()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], float(sys.argv[5]))

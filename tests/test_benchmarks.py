"""The script for machines with a GPU, on the CPU and for seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_gpu_script(tmp_path: Path) -> None:
    command = "--tiny --device cpu --minutes 5 --stages train-step,learn --env CartPole-v1 --out"
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu"), *command.split(), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "measurements.jsonl").read_text().splitlines()]
    assert rows == [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["stage"] for row in rows] == ["train-step", "train-step", "learn", "done"]
    assert [row["precision"] for row in rows[:2]] == ["fp32", "bf16"]
    assert all(row["seconds_median"] > 0 for row in rows[:2])
    learned = rows[2]
    # The tiny preset comes to its end long before the time is over.
    assert learned["status"] == 0, (tmp_path / "train.log").read_text()
    assert learned["updates"] > 0
    assert (tmp_path / "curve.png").stat().st_size > 0
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))

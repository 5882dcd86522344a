"""`benchmarks/convolutions.py` in a tiny size."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_layer_is_timed() -> None:
    command = [sys.executable, "benchmarks/convolutions.py", "--depth", "8", "--images", "2", "--threads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    layers = [(row["layer"], row.get("part")) for row in rows]
    assert len(set(layers)) == len(layers) == 6 * 3 - 1 + 1, (
        "the first layer has no gradient of images; one line is the sum"
    )
    assert all(row["ours_ms"] > 0 and row["onednn_ms"] > 0 for row in rows)

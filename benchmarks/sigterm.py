"""Stop a run of full size with SIGTERM at random moments, and measure the seconds until its process has ended.

    python benchmarks/sigterm.py --signals 20 --out results/sigterm.jsonl

The preset `atari` (22M parameters) on Boxing with one thread is stopped and resumed again and again: in the prefill, in
the pretraining, in updates and in evaluations. Each time the exit status must be 143, the files must be valid, and the
time below the limit; otherwise the exit status of this program is 1.
"""

import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from reporting import Report, parser

from reverie.runs.verify import verify

SETTINGS = shlex.split(
    "--preset atari --seed 0 --threads 1 --prefill 2000 --pretrain 8 --eval-every 20 --eval-episodes 1 "
    "--env.time-limit 200 --video-every 0 --log-every 20 --steps 100000"
)
LIMIT = 10.0


def stop(folder: Path, seconds: float) -> dict[str, Any]:
    """Start or resume the run, stop it so many seconds after its first line, and return what happened."""
    command = [sys.executable, "-m", "reverie", "train", "ALE/Boxing-v5", "--logdir", str(folder), *SETTINGS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with Path(f"{folder}.log").open("w+") as log:
        process = subprocess.Popen([*command, "--resume"], stdout=log, stderr=subprocess.STDOUT, env=environment)
        while not Path(log.name).stat().st_size and process.poll() is None:
            time.sleep(0.05)
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
        before = time.monotonic()
        status = process.wait()
        taken = time.monotonic() - before
        text = Path(log.name).read_text()
    phases = re.findall(r"^(\w+)  [\d,]+/[\d,]+ steps", text, re.MULTILINE) or ["starting"]
    found = {"seconds": round(taken, 2), "phase": phases[-1], "status": status}
    damage = [f"{finding.path} {finding.what}" for finding in verify(folder).damage]
    return found | {"damage": damage, "last_line": text.splitlines()[-1]}


def main() -> int:
    """Stop, resume, compare."""
    options_parser = parser(__doc__)
    options_parser.add_argument("--signals", type=int, default=20)
    options_parser.add_argument("--seed", type=int, default=0)
    options = options_parser.parse_args()
    report, rng = Report(options.out), random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder, found = Path(temporary, "run"), []
        for _ in range(options.signals):
            found.append(stop(folder, rng.uniform(0, 25)))
            print(found[-1], flush=True)
        seconds = [each["seconds"] for each in found]
        row = {
            "signals": options.signals,
            "seed": options.seed,
            "seconds_least": min(seconds),
            "seconds_median": round(float(np.median(seconds)), 2),
            "seconds_most": max(seconds),
            "phases": {
                phase: sum(each["phase"] == phase for each in found) for each in found for phase in [each["phase"]]
            },
            "all": [{key: each[key] for key in ("seconds", "phase")} for each in found],
            "damage": [each for one in found for each in one["damage"]],
            "command": shlex.join(["reverie", "train", "ALE/Boxing-v5", *SETTINGS]),
        }
        report.write(row, folder)
    is_good = max(seconds) < LIMIT and not row["damage"] and all(each["status"] == 143 for each in found)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())

"""Train for 10,000 steps in environments that fail at random in six ways, and look whether all is as it should be.

    python benchmarks/faults.py --out results/faults.jsonl

Two environments in worker processes, of which each step may raise an error, exit, end its process, be killed by SIGKILL
or SIGSEGV, or hang; a tiny agent. Once with environments that stand still while the agent learns, once beside it. The
run must come to its end; its count of failures must be the number of lines that told of them; every stored episode must
be what one environment has shown from its reset on, to its end or to where it failed; and every file must be sound.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import reverie  # noqa: E402
from reverie.bench.machine import machine  # noqa: E402
from reverie.config import EnvConfig  # noqa: E402
from reverie.envs import make_env  # noqa: E402
from reverie.provenance import commit  # noqa: E402
from reverie.runs.verify import verify  # noqa: E402
from reverie.training.metrics import read_metrics  # noqa: E402
from tests.helpers.environments import Unreliable  # noqa: E402
from tests.helpers.stored_episodes import check_stored  # noqa: E402

WAYS = ("raises", "exits", "leaves", "SIGKILL", "SIGSEGV", "hangs")
TOLD = {
    "raises": "the motor is on fire",
    "exits": "SystemExit",
    "leaves": "exit status 7",
    "SIGKILL": "killed by signal 9",
    "SIGSEGV": "killed by signal 11",
    "hangs": r"did not answer within 0\.5 seconds",
}
SETTINGS: dict[str, Any] = {
    **{
        "env.num_envs": 2,
        "env.step_timeout": 0.5,
        "env.max_restarts_per_hour": 1_000_000,
        "threads": 1,
        "seed": 0,
        "prefill": 200,
    },
    **{"train_every": 20, "eval_every": 0, "video_every": 0, "log_every": 500, "checkpoint_every": 500},
}


def run(steps: int, probability: float, overlap: str) -> dict[str, Any]:
    """One run, looked at afterwards."""
    environment = partial(Unreliable, *WAYS, probability=probability)
    environment.__qualname__ = "Unreliable"  # type: ignore[attr-defined]
    started, output, program = time.monotonic(), StringIO(), commit()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with redirect_stdout(output):
            agent = reverie.train(
                environment, "debug", logdir=folder, steps=steps, async_collection=overlap, **SETTINGS
            )
        rows = read_metrics(folder / "metrics.jsonl")
        with make_env(EnvConfig(num_envs=2, parallel=False), 0, partial(Unreliable, probability=0.0)) as env:
            early = check_stored(folder / "replay", env)
        damage = [f"{finding.path} {finding.what}" for finding in verify(folder).damage]
        about = machine(agent.config)
    text = " ".join(output.getvalue().split())
    return {
        "overlap": overlap,
        "steps": int(rows[-1]["step"]),
        "probability": probability,
        "faults_counted": int(rows[-1].get("env/restarts", 0)),
        "faults_told": len(re.findall(r"It was made anew; its episode counts as truncated", text)),
        "ways": {way: len(re.findall(words, text)) for way, words in TOLD.items()},
        "episodes_truncated": early,
        "updates": agent.updates,
        "damage": damage,
        "seconds": round(time.monotonic() - started, 1),
        "commit": program,
        "machine": about,
    }


def main() -> int:
    """Run both, print, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--probability", type=float, default=0.01, help="of a failure in each step")
    parser.add_argument("--out", type=Path, help="file that a line for each run is added to")
    options = parser.parse_args()
    good = True
    for overlap in ("off", "on"):
        row = run(options.steps, options.probability, overlap)
        print(json.dumps(row, indent=2))
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
        good &= row["steps"] >= options.steps and row["faults_counted"] == row["faults_told"] > 0 and not row["damage"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

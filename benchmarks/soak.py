"""Kill a run on Atari again and again, and see whether it ends in the very bits of the run that was left alone.

    python benchmarks/soak.py --kills 100 --out results/soak.jsonl

Boxing with two environments in worker processes and a small agent. First the run is left alone. Then it is killed with
SIGKILL at random instants, from its first moments to its last, half of the time a worker process shortly before the
trainer, and resumed; after each kill `reverie verify` must find nothing damaged. When it has been killed often enough
it may finish: its digest must be that of the first run.

In a third run only worker processes are killed. Their environments are restarted, so that this is another run, but it
must come to its end, with whole episodes, valid files, and every failure counted.

The exit status is 1 if anything of this fails.
"""

import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from reporting import Report, parser

from reverie.runs.digest import digest
from reverie.runs.metrics import read_metrics
from reverie.runs.verify import verify

ENV = "ALE/Boxing-v5"
SETTINGS = shlex.split(
    "--preset demo --seed 3 --threads 1 --env.num-envs 2 --env.parallel true --precision fp32 "
    "--train-every 16 --replay.batch-size 4 --replay.batch-length 12 --behavior.horizon 5 "
    "--log-every 100 --eval-every 0 --video-every 400 --checkpoint-every 50 --pretrain 20 --pretrain-world-model 20 "
    "--prefill 400 --replay.capacity 2500 --env.time-limit 100"
)


def start(folder: Path, steps: int, *more: str) -> "subprocess.Popen[bytes]":
    """Start or resume the run."""
    command = [sys.executable, "-m", "reverie", "train", ENV, "--logdir", str(folder), "--resume"]
    log = (folder.parent / f"{folder.name}.log").open("ab")
    return subprocess.Popen([*command, *SETTINGS, "--steps", str(steps), *more], stdout=log, stderr=log)


def workers(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Return the processes that step environments."""
    try:
        return psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return []


def kill(process: "subprocess.Popen[bytes]", rng: random.Random) -> None:
    """Kill the trainer, half of the time a worker first."""
    if rng.random() < 0.5 and (found := workers(process)):
        os.kill(rng.choice(found).pid, signal.SIGKILL)
        time.sleep(rng.uniform(0, 0.05))
    process.kill()
    process.wait()


def step_of(folder: Path) -> int:
    """Return the step of the newest checkpoint."""
    return max((int(path.name.split("-")[1]) for path in (folder / "checkpoints").glob("step-*")), default=0)


def killed_run(folder: Path, steps: int, kills: int, rng: random.Random, startup: float) -> dict[str, Any]:
    """Kill a run so often, then finish it."""
    at, damaged = [], []
    while len(at) < kills:
        process = start(folder, steps)
        # From before the folder is opened to some seconds of training.
        deadline = time.monotonic() + (
            rng.uniform(0, startup) if rng.random() < 0.2 else startup + rng.expovariate(0.4)
        )
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if process.poll() is not None:
            if process.returncode:
                raise SystemExit(f"the run failed: see {folder}.log")
            break  # It came to its end.
        kill(process, rng)
        at.append(step_of(folder))
        if (folder / "config.toml").exists() and at[-1]:
            damaged += [f"{finding.path} {finding.what}" for finding in verify(folder).damage]
    if start(folder, steps).wait():
        raise SystemExit(f"the run failed: see {folder}.log")
    return {"kills": len(at), "checkpoint_steps_when_killed": at, "damage": damaged, "digest": digest(folder)}


def run_without_workers(folder: Path, steps: int, kills: int, rng: random.Random) -> dict[str, Any]:
    """Kill the worker processes of a run."""
    process, done = start(folder, steps, "--env.max-restarts-per-hour", "100000"), 0
    while process.poll() is None and step_of(folder) == 0:  # An environment that fails at its very first reset ends it.
        time.sleep(0.05)
    while process.poll() is None and done < kills:
        if found := workers(process):
            os.kill(rng.choice(found).pid, signal.SIGKILL)
            done += 1
        time.sleep(rng.uniform(0.2, 2.0))
    if code := process.wait():
        raise SystemExit(
            f"the run failed with status {code}: {folder.with_name(f'{folder.name}.log').read_text()[-2000:]}"
        )
    rows = read_metrics(folder / "metrics.jsonl")
    return {
        "kills": done,
        "steps": int(rows[-1]["step"]),
        "restarts_counted": int(rows[-1].get("env/restarts", 0)),
        "damage": [f"{finding.path} {finding.what}" for finding in verify(folder).damage],
    }


def main() -> int:
    """Run, kill, compare."""
    options_parser = parser(__doc__)
    options_parser.add_argument("--kills", type=int, default=100)
    options_parser.add_argument("--steps", type=int, default=6000)
    options_parser.add_argument("--seed", type=int, default=0)
    options = options_parser.parse_args()
    rng, report = random.Random(options.seed), Report(options.out)
    with tempfile.TemporaryDirectory() as temporary:
        whole, killed, alone = (Path(temporary, name) for name in ("whole", "killed", "workers"))
        process, before = start(whole, options.steps), time.monotonic()
        while not (whole / "replay.db").exists() and process.poll() is None:
            time.sleep(0.01)
        startup = time.monotonic() - before
        if process.wait():
            raise SystemExit(f"the run failed: {(Path(temporary, 'whole.log')).read_text()[-2000:]}")
        expected = digest(whole)
        seconds = time.monotonic() - before
        result = killed_run(killed, options.steps, options.kills, rng, startup)
        found = result.pop("digest")
        others = run_without_workers(alone, options.steps, options.kills, rng)
        row = {
            "env": ENV,
            "steps": options.steps,
            "seed": options.seed,
            "uninterrupted_seconds": round(seconds, 1),
            **result,
            "same_bits": found == expected,
            "differing": [part for part in expected if found[part] != expected[part]],
            "digest": expected["run"],
            "workers_killed": others,
        }
        report.write(row, whole)
    good = row["same_bits"] and not result["damage"] and not others["damage"]
    return 0 if good and 0 < others["restarts_counted"] <= others["kills"] else 1


if __name__ == "__main__":
    sys.exit(main())

"""Compare the time of an update with that of another checkout, in alternating updates of two agents.

    git worktree add ../before COMMIT
    python benchmarks/update_time.py ../before --preset atari-small --precision bf16 --out results/update_time.jsonl

Each checkout has a process that builds the agent of `reverie train` and updates it on one random batch when it is told
to. In each round both make one update, in an order that changes from round to round, and neither computes meanwhile.
The outcome is the ratio within a round, this checkout to the other: its median, and the standard error of its mean.
Processor time is what the update cost where other processes share the cores.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.against import revision  # noqa: E402
from reverie.bench.measuring import machine, write_row  # noqa: E402
from reverie.config import preset  # noqa: E402

WARM_UP = 3
"""Updates of each agent that are not counted."""
WORKER = """
import sys, time
import torch
from reverie.bench.examples import example_spec, random_batch
name, precision, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
try:
    from reverie.agents import build_agent
    from reverie.config import preset
    from reverie.kernels import tune_malloc
except ImportError:  # before the agent was split into algorithm, kernels and files
    from reverie.agent import Dreamer as build_agent
    from reverie.fast.memory import keep_freed_memory as tune_malloc
    from reverie.presets import preset
tune_malloc()
torch.set_num_threads(threads)
config = preset(name).override(precision=precision, device="cpu", threads=threads)
agent = build_agent(config, example_spec(name), seed=0)
arrays = random_batch(agent.spec, config.replay.batch_length, config.replay.batch_size)
batch = {key: torch.from_numpy(value) for key, value in arrays.items()}
print("ready", flush=True)
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    agent.train_step(batch)
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""


class Worker:
    """Process that updates an agent of a checkout."""

    def __init__(self, checkout: Path, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            env=environment,
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def update(self) -> list[float]:
        """Return the wall seconds and processor seconds of one update."""
        assert self._process.stdin is not None
        self._process.stdin.write("update\n")
        self._process.stdin.flush()
        return [float(number) for number in self._read().split()]

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("error: A worker has ended. Its message is above.")
        return line


def main() -> int:
    """Update in both checkouts, alternating, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="worktree of another commit")
    parser.add_argument("--preset", default="atari-small")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="file that one line with the outcome is added to")
    options = parser.parse_args()
    arguments = (options.preset, options.precision, str(options.threads))
    workers = [Worker(ROOT, *arguments), Worker(options.checkout.resolve(), *arguments)]
    rounds = []
    for number in range(WARM_UP + options.rounds):
        order = workers if number % 2 else workers[::-1]
        seconds = {worker: worker.update() for worker in order}
        rounds.append([seconds[worker] for worker in workers])
        print(*(f"{one:.3f}" for one in np.ravel(rounds[-1])), flush=True)
    found = np.array(rounds[WARM_UP:])  # [round, checkout, wall or processor]
    result: dict[str, Any] = {"now": revision(ROOT), "before": revision(options.checkout), **vars(options)}
    result |= {"checkout": None, "out": None}
    for index, name in enumerate(("seconds", "cpu_seconds")):
        now, before = found[:, 0, index], found[:, 1, index]
        result[f"{name}_now"], result[f"{name}_before"] = (round(float(np.median(part)), 4) for part in (now, before))
        result[f"{name}_ratio_median"] = round(float(np.median(now / before)), 4)
        error = (now / before).std(ddof=1) / np.sqrt(len(now))
        result[f"{name}_ratio_standard_error"] = round(float(error), 4)
    config = preset(options.preset).override(precision=options.precision, device="cpu", threads=options.threads)
    result = {name: value for name, value in result.items() if value is not None} | {"machine": machine(config)}
    write_row(result, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

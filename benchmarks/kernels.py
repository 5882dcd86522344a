"""Measure what each CPU kernel gains, in updates with all kernels and with all but one.

    OMP_NUM_THREADS=1 python benchmarks/kernels.py --preset atari-small --precision bf16 --rounds 10

One process has an agent with all kernels, one without each of them, and one without any. In each round every agent
makes one update on the same batch, in random order. The kernel `policy` is measured in decisions of one environment.
A ratio of 1.25 says that the work takes 25 % more processor time without the kernel than with it, in the same round.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.bench.examples import example_spec, random_batch
from reverie.bench.measuring import machine, prepare, spread
from reverie.config import Config, preset
from reverie.devices import resolve_dtype
from reverie.dreamer import Dreamer
from reverie.dreamer.recurrent_policy import RecurrentPolicy
from reverie.kernels import optimize

IN_UPDATES = ("filtering", "imagination", "dense", "convolutions", "adam")
"""Kernels of an update on a CPU."""
NUM_DECISIONS = 50
"""Decisions of a policy in a round."""


def contenders(config: Config, preset_name: str) -> dict[str, Callable[[], Any]]:
    """Return work by the kernel that it does without; "" and "with policy" are the work with kernels."""
    spec, cpu = example_spec(preset_name), torch.device("cpu")
    arrays = random_batch(spec, config.replay.batch_length, config.replay.batch_size)
    batch = {key: torch.from_numpy(value) for key, value in arrays.items()}

    def agent(*missing: str) -> Dreamer:
        plain = Dreamer(config, spec, 0, cpu, resolve_dtype(cpu, config.training.precision))
        return optimize(plain, only=set(IN_UPDATES) - set(missing))

    work: dict[str, Callable[[], Any]] = {name: partial(agent(name).train_step, batch) for name in ("", *IN_UPDATES)}
    work["all"] = partial(agent(*IN_UPDATES).train_step, batch)
    policy, obs = agent().recurrent_policy, {key: batch[key][0, :1] for key in (*spec.observations, "is_first")}
    work["policy"] = partial(decide, policy.clone(), obs)
    return work | {"with policy": partial(decide, optimize(policy.clone(), only=["policy"]), obs)}


def decide(policy: RecurrentPolicy, obs: dict[str, torch.Tensor]) -> None:
    """Make decisions in one environment."""
    generator, state = torch.Generator().manual_seed(0), None
    for _ in range(NUM_DECISIONS):
        state = policy(obs, state, "sample", generator)


def measure(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Return the processor seconds of each in every round but the first."""
    seconds = {name: np.zeros(rounds + 1) for name in work}
    for number, rng in enumerate(map(np.random.default_rng, range(rounds + 1))):
        for name in rng.permutation(list(work)):
            start = time.process_time()
            work[name]()
            seconds[name][number] = time.process_time() - start
        print({name: round(found[number], 3) for name, found in seconds.items()}, file=sys.stderr, flush=True)
    return {name: found[1:] for name, found in seconds.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="atari-small")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default="results/kernels.jsonl", help="gets a line for each kernel")
    options = parser.parse_args()
    config = preset(options.preset).override(precision=options.precision, device="cpu", threads=options.threads)
    prepare(config)
    seconds = measure(contenders(config, options.preset), options.rounds)
    with options.out.open("a") as file:
        for name in (*IN_UPDATES, "all", "policy"):
            unit, base = (f"{NUM_DECISIONS} decisions", "with policy") if name == "policy" else ("update", "")
            line = {"preset": options.preset, "rounds": options.rounds, "without": name, "unit": unit}
            line |= spread("ratio", seconds[name] / seconds[base]) | spread("cpu_seconds_with", seconds[base])
            file.write(json.dumps(line | machine(config)) + "\n")

"""How long one update takes."""

import time
from typing import Any

import torch

from reverie.acting import to_tensors
from reverie.agents import build_agent, parameter_counts
from reverie.bench.examples import example_spec, random_batch
from reverie.bench.machine import prepare
from reverie.bench.spread import spread
from reverie.config import Config
from reverie.devices import resolve_device
from reverie.dreamer import Dreamer
from reverie.training.memory import check_memory

WARM_UP = 2
"""Updates before measuring: the first ones allocate memory and choose kernels."""
WARM_UP_GPU = 6
"""On CUDA the fourth one records the graph of all later ones."""


def measure_train_step(config: Config, preset: str, repeats: int) -> dict[str, Any]:
    """Time updates on one random batch.

    Args:
        config: the agent's settings; batch size, length, precision, device and threads are taken from it.
        preset: its name; it decides what kind of environment the batch comes from.
        repeats: timed updates.

    Returns:
        `batch`, `length`, the number of trained `parameters`, and the spread of `seconds` per update.

    Raises:
        ConfigError: if the batch cannot fit in memory.
    """
    prepare(config)
    spec = example_spec(preset)
    check_memory(config, spec, resolve_device(config.training.device))
    agent = build_agent(config, spec, seed=0)
    return {
        "batch": config.replay.batch_size,
        "length": config.replay.batch_length,
        "parameters": parameter_counts(agent)["trained"],
        **spread("seconds", train_step_seconds(agent, repeats)),
    }


def train_step_seconds(agent: Dreamer, repeats: int) -> list[float]:
    """Seconds of each `Dreamer.train_step` on one random batch, after some that are not timed."""
    replay = agent.config.replay
    batch = to_tensors(random_batch(agent.spec, replay.batch_length, replay.batch_size), agent.device)
    seconds = []
    warm_up = WARM_UP_GPU if agent.device.type == "cuda" else WARM_UP
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        agent.train_step(batch)
        if agent.device.type == "cuda":
            torch.cuda.synchronize(agent.device)
        seconds.append(time.perf_counter() - start)
    return seconds[warm_up:]

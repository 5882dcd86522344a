"""Time of one update."""

from typing import Any

import torch

from reverie.acting import to_tensors
from reverie.agents import build_agent, num_parameters
from reverie.bench.examples import example_spec, random_batch
from reverie.bench.machine import prepare
from reverie.bench.timing import seconds_of, spread
from reverie.config import Config
from reverie.devices import resolve_device
from reverie.dreamer import Dreamer
from reverie.training.memory import check_memory


def measure_train_step(config: Config, preset: str, repeats: int) -> dict[str, Any]:
    """Time updates on a random batch of the preset's kind; raise ConfigError if it cannot fit in memory."""
    prepare(config)
    spec = example_spec(preset)
    check_memory(config, spec, resolve_device(config.training.device))
    agent = build_agent(config, spec, seed=0)
    return {
        "batch": config.replay.batch_size,
        "length": config.replay.batch_length,
        "parameters": num_parameters(agent),
        **spread("seconds", train_step_seconds(agent, repeats)),
    }


def train_step_seconds(agent: Dreamer, repeats: int) -> list[float]:
    """Return the seconds of `Dreamer.train_step` on one random batch, after some updates that are not timed."""
    is_cuda, replay = agent.device.type == "cuda", agent.config.replay
    batch = to_tensors(random_batch(agent.spec, replay.batch_length, replay.batch_size), agent.device)

    def update() -> None:
        agent.train_step(batch)
        if is_cuda:
            torch.cuda.synchronize(agent.device)

    # The first updates allocate memory and choose kernels; on CUDA the fourth records the graph of all later ones.
    warm_up = 6 if is_cuda else 2
    return [seconds_of(update) for _ in range(warm_up + repeats)][warm_up:]

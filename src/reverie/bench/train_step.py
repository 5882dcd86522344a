"""Time of one update."""

from typing import Any

import torch

from reverie.acting import to_tensors
from reverie.agents import build_agent, num_parameters
from reverie.bench.examples import example_spec, random_batch
from reverie.bench.measuring import prepare, seconds_of, spread
from reverie.config import Config
from reverie.devices import resolve_device
from reverie.scaling.learners import shared_updates
from reverie.training.memory import check_memory


def measure_train_step(config: Config, preset: str, repeats: int) -> dict[str, Any]:
    """Time updates on a random batch of the preset's kind; raise ConfigError if it cannot fit in memory."""
    prepare(config)
    spec, replay = example_spec(preset), config.replay
    check_memory(config, spec, resolve_device(config.training.device))
    agent = build_agent(config, spec, seed=0)
    batch = to_tensors(random_batch(spec, replay.batch_length, replay.batch_size), agent.device)
    is_cuda = agent.device.type == "cuda"

    def update() -> None:
        agent.train_step(batch)
        if is_cuda:
            torch.cuda.synchronize(agent.device)

    # The first updates allocate memory and choose kernels; on CUDA the fourth records the graph of all later ones.
    warm_up = 6 if is_cuda else 2
    with shared_updates(agent):
        seconds = [seconds_of(update) for _ in range(warm_up + repeats)][warm_up:]
    sizes = {"batch": replay.batch_size, "length": replay.batch_length}
    return {**sizes, "parameters": num_parameters(agent), **spread("seconds", seconds)}

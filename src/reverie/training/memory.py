"""Memory that an update takes at least, compared with what there is before a run starts."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from reverie.config import Config
from reverie.errors import ConfigError, RunError
from reverie.specs import EnvSpec

ENCODED, DECODED = 31**2 + 2 * 14**2 + 4 * 6**2 + 8 * 2**2, 4 * 5**2 + 2 * 13**2 + 30**2
"""Activations of the convolutions on 64x64 pixels, by `cnn_depth`."""


def check_memory(config: Config, spec: EnvSpec, device: torch.device) -> None:
    """Raise ConfigError if a batch cannot fit in memory. The estimate is low: nothing is refused that would fit."""
    is_cuda = device.type == "cuda"
    needed, free = least_memory(config, spec), torch.cuda.mem_get_info(device)[0] if is_cuda else free_memory()
    needed //= 3 if is_cuda else 1  # where the estimate was not measured
    if needed > free:
        raise ConfigError(
            f"A batch of {_batch(config)} needs at least {needed / 2**30:,.1f} GiB of {'GPU ' * is_cuda}memory, "
            f"and {free / 2**30:,.1f} GiB are free. Lower them, or behavior.horizon and the sizes of the networks."
        )


def _batch(config: Config) -> str:
    replay = config.replay
    return f"replay.batch_size={replay.batch_size} x replay.batch_length={replay.batch_length} steps"


def least_memory(config: Config, spec: EnvSpec) -> int:
    """Return bytes below what an update takes, by its largest parts: 24 O + 16 S K + 2 A for each step of the batch.

    O are the numbers of the observation and S K those of the latent variables, with gradients in float32; A activations
    of convolutions, actor and critic are kept for the backward pass, in bf16. On a CPU, memory grew by 1.3 to 13 times
    as much in 27 measurements (tests/training/test_memory.py).
    """
    model, behavior, rssm = config.world_model, config.behavior, config.world_model.rssm
    latents = rssm.stoch * (1 if rssm.latents == "gaussian" else rssm.classes)
    actor, critic = behavior.actor, behavior.critic
    share = (behavior.imagine_last or config.replay.batch_length) / config.replay.batch_length
    states = share * behavior.horizon
    rollouts = 2 if config.training.explore in ("plan2explore", "model-loss") else 1
    activations = int(states * rollouts * (rssm.deter + actor.layers * actor.units + critic.layers * critic.units))
    if config.training.explore == "plan2explore" or behavior.disagreement_penalty:
        head = config.exploration.head  # members' predictions of all imagined states, by their smallest target
        activations += int((states + 1) * head.models * min(rssm.deter, latents))
    if any(observation.is_image for observation in spec.observations.values()):
        activations += model.encoder.cnn_depth * ENCODED + model.decoder.cnn_depth * DECODED
    step = 24 * sum(observation.size for observation in spec.observations.values()) + 16 * latents + 2 * activations
    return step * config.replay.batch_size * config.replay.batch_length


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Raise RunError in place of what NumPy and PyTorch raise where memory cannot be had."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise RunError(
            f"Memory ran out in an update of {_batch(config)}. What was learned is kept. Lower them, or "
            "behavior.horizon."
        ) from error


def free_memory() -> int:
    """Return the bytes that this process may still take, swap included."""
    lines = (line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {name: int(rest.split()[0]) for name, rest in lines}
    bounds = [1024 * (kib["MemAvailable"] + kib["SwapFree"])]
    with suppress(OSError, ValueError):  # no such file, or "max"
        bounds.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min(bounds) if soft == resource.RLIM_INFINITY else min(*bounds, soft)

"""Memory that an update takes at least, compared with what there is before a run starts."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from reverie.config import Config, MLPConfig
from reverie.errors import ConfigError, RunError
from reverie.specs import EnvSpec

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_memory(config: Config, spec: EnvSpec, device: torch.device) -> None:
    """Raise ConfigError if a batch cannot fit in memory. The estimate is low: nothing is refused that would fit."""
    cuda = device.type == "cuda"
    needed, free = least_memory(config, spec, cuda), torch.cuda.mem_get_info(device)[0] if cuda else free_memory()
    if free is not None and needed > free:
        raise ConfigError(
            f"A batch of {_batch(config)} needs at least {needed / 2**30:,.1f} GiB of {'GPU ' if cuda else ''}memory, "
            f"and {free / 2**30:,.1f} GiB are free. Lower them, or behavior.horizon and the sizes of the networks."
        )


def _batch(config: Config) -> str:
    replay = config.replay
    return f"replay.batch_size={replay.batch_size} x replay.batch_length={replay.batch_length} steps"


def least_memory(config: Config, spec: EnvSpec, cuda: bool = False) -> int:
    """Return the bytes that an update takes at least, weights not counted.

    For each step of the batch 24 O + 16 S K + 2 A: O numbers of the observation and S K of the latent variables, with
    gradients in float32, and A activations that are kept for the backward pass, in bf16. On a CPU, peak resident memory
    grew by 1.3 to 5.3 times as much in 27 measurements: nine presets, longer horizons, other widths
    (tests/training/test_memory.py). On CUDA it was not measured, and a third is taken.
    """
    model, behavior, replay = config.world_model, config.behavior, config.replay
    rssm, images = model.rssm, any(observation.is_image for observation in spec.observations.values())
    observed = sum(observation.size for observation in spec.observations.values())
    stochastic = rssm.stoch * (1 if rssm.latents == "gaussian" else rssm.classes)
    heads = _hidden(model.reward_head) + (_hidden(model.discount_head) if model.predict_discount else 0)
    recurrent = 3 * (rssm.hidden + rssm.deter)
    activations = recurrent + heads
    if images:
        activations += model.encoder.cnn_depth * _ENCODED + model.decoder.cnn_depth * _DECODED
    if not all(observation.is_image for observation in spec.observations.values()):
        activations += _hidden(model.encoder.mlp) + _hidden(model.decoder.mlp)
    imagined = rssm.deter + _hidden(behavior.actor) + _hidden(behavior.critic)
    gradient = behavior.actor.gradient
    if gradient in ("dynamics", "both") or (gradient == "auto" and spec.action.kind == "continuous"):
        imagined += recurrent + heads + _hidden(behavior.critic) + stochastic  # rollouts are differentiated
    step = 24 * observed + 16 * stochastic + 2 * (activations + behavior.horizon * imagined)
    return step * replay.batch_size * replay.batch_length // (3 if cuda else 1)


_ENCODED = 31**2 + 2 * 14**2 + 4 * 6**2 + 8 * 2**2
_DECODED = 4 * 5**2 + 2 * 13**2 + 30**2
"""Activations of the convolutions on 64x64 pixels, by `cnn_depth`."""


def _hidden(mlp: MLPConfig) -> int:
    return mlp.layers * mlp.units


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


def free_memory() -> int | None:
    """Return the bytes that this process may still take, swap included; None if the system does not say."""
    return min(_bounds(), default=None)


def _bounds() -> Iterator[int]:
    with suppress(OSError, ValueError, KeyError):
        lines = (line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        kib = {name: int(rest.split()[0]) for name, rest in lines}
        yield 1024 * (kib["MemAvailable"] + kib["SwapFree"])
    with suppress(OSError, ValueError):  # systems without /proc: all memory that there is
        if not Path("/proc/meminfo").exists():
            yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in _LIMITS:
        with suppress(OSError, ValueError):  # "max"
            yield int(Path(limit).read_text())
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        yield soft

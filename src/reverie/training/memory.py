"""Memory that an update takes at least, compared with what there is before a run starts."""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from reverie.config import Config
from reverie.errors import ConfigError
from reverie.spaces import EnvSpec

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_memory(config: Config, spec: EnvSpec, device: torch.device) -> None:
    """Check that a batch can fit in memory. The estimate is low, so that nothing is refused that would fit.

    Raises:
        ConfigError: if it cannot.
    """
    cuda = device.type == "cuda"
    needed, there = least_memory(config, spec, cuda), torch.cuda.mem_get_info(device)[0] if cuda else free_memory()
    if there is not None and needed > there:
        replay = config.replay
        raise ConfigError(
            f"A batch of replay.batch_size={replay.batch_size} x replay.batch_length={replay.batch_length} steps needs "
            f"at least {needed / 2**30:,.1f} GiB of {'GPU ' if cuda else ''}memory, and {there / 2**30:,.1f} GiB are "
            "free. Lower one of them."
        )


def least_memory(config: Config, spec: EnvSpec, cuda: bool = False) -> int:
    """Bytes that an update takes at least, weights not counted.

    For each step of the batch 24 O + 16 S K + 2 H D: O numbers of the observation and S K of the latent variables, with
    gradients in float32, and H imagined recurrent states of D numbers in bf16. On a CPU, peak resident memory grew by
    1.5 to 128 times as much in 45 measurements: nine presets, one to three batch sizes, longer horizons, other widths,
    fp32 and bf16 (tests/training/test_memory.py). On CUDA it was not measured, and a third is taken.
    """
    replay, rssm = config.replay, config.world_model.rssm
    observed = sum(observation.size for observation in spec.observations.values())
    stochastic = rssm.variables * (1 if rssm.latents == "gaussian" else rssm.classes)
    step = 24 * observed + 16 * stochastic + 2 * config.behavior.horizon * rssm.deter
    return step * replay.batch_size * replay.batch_length // (3 if cuda else 1)


def free_memory() -> int | None:
    """Bytes that this process may still take, swap included; None if the system does not say."""
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

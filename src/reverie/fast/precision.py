"""Which precision pays on a device."""

import functools
from pathlib import Path

import torch

FLAGS = ("amx_bf16", "avx512_bf16")
"""Extensions, as Linux names them, that multiply bfloat16 at least twice as fast as float32."""


def prefers_bf16(device: torch.device) -> bool:
    """Whether `training.precision=auto` is bf16 there: on CUDA, and on CPUs with AMX or AVX-512-BF16."""
    return device.type == "cuda" or not cpu_flags().isdisjoint(FLAGS)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The processor's extensions, as Linux names them; none where Linux does not say."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text(errors="replace").split())
    except OSError:
        return frozenset()

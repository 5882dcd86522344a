"""Which precision pays on a device."""

import functools
from pathlib import Path

import torch

FLAGS = ("amx_bf16", "avx512_bf16")
"""Extensions, as Linux names them, that multiply bfloat16 at least twice as fast as float32."""


def prefers_bf16(device: torch.device) -> bool:
    """Whether `training.precision=auto` is bf16 there: on CUDA, and on CPUs with AMX or AVX-512-BF16."""
    return device.type == "cuda" or _cpu_has_bf16()


@functools.cache
def _cpu_has_bf16() -> bool:
    try:
        words = set(Path("/proc/cpuinfo").read_text(errors="replace").split())
    except OSError:
        return False
    return any(flag in words for flag in FLAGS)

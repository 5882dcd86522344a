"""Devices and the precision that they compute in."""

import functools
from pathlib import Path

import torch

from reverie.errors import ConfigError

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""CPU extensions, as Linux names them, that multiply bfloat16 at least twice as fast as float32."""


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is CUDA where there is a device.

    Raises:
        ConfigError: if CUDA is asked for and not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            "device is 'cuda', but PyTorch finds no CUDA device here; use --device cpu, or install a CUDA build of "
            "PyTorch and check the driver with nvidia-smi."
        )
    try:
        return torch.device(name)
    except RuntimeError:
        raise ConfigError(f"There is no device '{name}'. Use auto, cpu or cuda.") from None


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def resolve_dtype(device: torch.device, precision: str) -> torch.dtype:
    """Return the dtype of matrix products and convolutions that `training.precision` means on a device."""
    if precision == "auto":  # on CUDA, and on CPUs with AMX or AVX-512-BF16
        is_bf16 = device.type == "cuda" or not cpu_flags().isdisjoint(BF16_FLAGS)
    else:
        is_bf16 = precision == "bf16"
    return torch.bfloat16 if is_bf16 else torch.float32


def precision_name(dtype: torch.dtype) -> str:
    """Return `bf16` or `fp32`."""
    return "bf16" if dtype == torch.bfloat16 else "fp32"


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return the processor's extensions, as Linux names them; none on other systems."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text(errors="replace").split())
    except OSError:
        return frozenset()

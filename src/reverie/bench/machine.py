"""Machine and program of a measurement."""

import platform
from typing import Any

import torch

from reverie import kernels
from reverie.config import Config
from reverie.devices import cpu_flags, resolve_device
from reverie.provenance import commit, proc_entry, reverie_version, usable_cores
from reverie.runs.provenance import runtime

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
"""Extensions that decide how fast matrix products are, as Linux names them."""


def machine(config: Config) -> dict[str, Any]:
    """Return machine, versions, and peak memory; call it after the measurement.

    `docs/quickstart.md` lists the keys. `commit` is None if reverie was not imported from a git checkout,
    `peak_resident_mib` outside of Linux, `gpu` and `peak_gpu_mib` without one.
    """
    device, has_cuda = resolve_device(config.training.device), torch.cuda.is_available()
    peak_gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {
        **runtime(config),
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in cpu_flags()],
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name() if has_cuda else None,
        "reverie": reverie_version(),
        "python": platform.python_version(),
        "commit": commit(),
        "peak_resident_mib": resident_mib("VmHWM"),
        "peak_gpu_mib": None if peak_gpu is None else round(peak_gpu, 1),
    }


def prepare(config: Config) -> None:
    """Set the process up as training does."""
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    kernels.tune_malloc()


def resident_mib(entry: str = "VmRSS") -> float | None:
    """Return the memory that this process occupies, or its peak, `VmHWM`; None outside of Linux."""
    status = proc_entry("self/status", entry)
    return round(int(status.split()[0]) / 1024, 1) if status else None

"""What a measurement was made on: hardware, threads, versions, memory."""

import platform
import resource
import sys
from typing import Any

import torch

from reverie import kernels
from reverie.config import Config
from reverie.devices import device_name, precision_name, resolve_device, resolve_dtype
from reverie.provenance import commit, cpu_name, proc_entry, reverie_version, usable_cores

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
"""Extensions that decide how fast matrix products are, as Linux names them."""

_MIB = 2**20


def machine(config: Config) -> dict[str, Any]:
    """Under which circumstances something was measured; call it after the measurement, for the peak of memory.

    Args:
        config: the settings that were measured.

    Returns:
        `precision`, `device` (the GPU's name, or cpu), `threads` of PyTorch, `cpu`, `cpu_flags`, `cores` that this
        process may use, `gpu` (None where there is none), `reverie`, `torch` and `python` (versions), `commit` (None
        if reverie was not imported from a git checkout), `peak_resident_mib` of this process, and
        `peak_gpu_mib` allocated by PyTorch (None on a CPU).
    """
    device = resolve_device(config.training.device)
    on_gpu = device.type == "cuda"
    return {
        "precision": precision_name(resolve_dtype(device, config.training.precision)),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in proc_entry("cpuinfo", "flags").split()],
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "reverie": reverie_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
        "peak_resident_mib": round(_peak_resident() / _MIB, 1),
        "peak_gpu_mib": round(torch.cuda.max_memory_allocated(device) / _MIB, 1) if on_gpu else None,
    }


def prepare(config: Config) -> None:
    """Set the process up as training does."""
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    kernels.tune_malloc()


def resident_mib() -> float | None:
    """Memory that this process occupies now; None where the system does not say it in /proc."""
    status = proc_entry("self/status", "VmRSS")
    return int(status.split()[0]) / 1024 if status else None


def _peak_resident() -> int:
    """Bytes. Linux' getrusage also counts the parent from before this program was started, so /proc comes first."""
    status = proc_entry("self/status", "VmHWM")
    if status:
        return int(status.split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

"""Machine facts, timing and rows of the measurements."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie import kernels
from reverie.config import Config
from reverie.devices import cpu_flags, resolve_device
from reverie.provenance import commit, proc_entry, reverie_version, usable_cores
from reverie.runs.provenance import runtime

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
"""Extensions that decide how fast matrix products are, as Linux names them."""


def prepare(config: Config) -> None:
    """Set the process up as training does."""
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    kernels.tune_malloc()


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


def resident_mib(entry: str = "VmRSS") -> float | None:
    """Return the memory that this process occupies, or its peak, `VmHWM`; None outside of Linux."""
    status = proc_entry("self/status", entry)
    return round(int(status.split()[0]) / 1024, 1) if status else None


def seconds_of(call: Callable[[], object]) -> float:
    """Return the duration of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def per_second(call: Callable[[], int], seconds: float) -> float:
    """Return what repeated calls count in a second; they are repeated for at least `seconds`."""
    count, elapsed, start = 0, 0.0, time.perf_counter()
    while elapsed < seconds:
        count += call()
        elapsed = time.perf_counter() - start
    return count / elapsed


def spread(name: str, values: Sequence[float]) -> dict[str, Any]:
    """Return `NAME_median`, `NAME_quartiles` (linear interpolation) and `NAME_all`, in the order of measurement."""
    lower, median, upper = (rounded(value) for value in np.quantile(np.asarray(values, float), (0.25, 0.5, 0.75)))
    return {f"{name}_median": median, f"{name}_quartiles": [lower, upper], f"{name}_all": list(map(rounded, values))}


def rounded(value: float) -> float:
    """Return the number with six significant digits; clocks give no more."""
    return float(f"{value:.6g}")


def write_row(row: Mapping[str, Any], path: Path | None = None) -> None:
    """Print a row as one line of JSON, and append it to a file if one is given."""
    line = json.dumps(row)
    print(line, flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{line}\n")

"""Timing of calls, and how values that were measured several times are reported."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def seconds_of(call: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
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

"""How a quantity that was measured several times is reported."""

from collections.abc import Sequence
from typing import Any

import numpy as np

DIGITS = 6
"""Significant digits of what is reported; clocks give no more."""


def spread(name: str, values: Sequence[float]) -> dict[str, Any]:
    """Median, lower and upper quartile (linear interpolation), and all values in the order they were measured.

    Args:
        name: of the quantity, with its unit, for example `step_seconds`.
        values: at least one.

    Returns:
        `NAME_median`, `NAME_quartiles` and `NAME_all`.
    """
    lower, median, upper = (rounded(value) for value in np.quantile(np.asarray(values, float), (0.25, 0.5, 0.75)))
    return {
        f"{name}_median": median,
        f"{name}_quartiles": [lower, upper],
        f"{name}_all": [rounded(value) for value in values],
    }


def rounded(value: float) -> float:
    """The number with `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")

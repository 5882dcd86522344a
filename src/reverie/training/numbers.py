"""Numbers as the displays write them."""

import math
from datetime import timedelta


def format_number(value: float) -> str:
    """Return five significant digits, and all digits of the integer part below a billion."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:,.5g}"


def format_duration(seconds: float | None) -> str:
    """Return `0:04:07`, `3:04:07`, or `2 days, 3:04:07`; `-:--:--` if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-:--:--"
    return str(timedelta(seconds=round(max(seconds, 0))))

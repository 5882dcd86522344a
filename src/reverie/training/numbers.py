"""Numbers as the display writes them."""

import math


def format_number(value: float) -> str:
    """Return four significant digits or one decimal, whichever is more; an exponent for the very large and small.

    An image loss changes in its first decimal long after its constant part, some thousands, is reached.
    """
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-4:
        return f"{value:.2e}"
    decimals = 4 if size < 0.1 else 3 if size < 10 else 1
    return f"{value:,.{decimals}f}"


def format_score(value: float) -> str:
    """Return one decimal, as scores are reported, and three where a score is small."""
    if math.isfinite(value) and 0 < abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:,.1f}"


def format_rate(value: float) -> str:
    """Return three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def format_duration(seconds: float | None) -> str:
    """Return `4:07`, `3:04:07`, or `2d 03:04`; `--:--` if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "--:--"
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days}d {hours_left:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_count(value: int) -> str:
    """Return `4.2M`, `22.2M`, `512k`."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            text = f"{value / size:.1f}" if value < 100 * size else f"{value / size:.0f}"
            return text.removesuffix(".0") + unit
    return str(value)


def short_name(metric: str) -> str:
    """Return `image` of `model/image_loss`."""
    return metric.split("/", 1)[-1].removesuffix("_loss").replace("_", " ")

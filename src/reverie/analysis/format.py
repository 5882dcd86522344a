"""Numbers and names as a report writes them."""

import math
from collections.abc import Sequence
from pathlib import Path


def frames_text(frames: float) -> str:
    """`1M`, `250k`, `1.25M`, `996k`."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if frames >= 0.9995 * size:
            return f"{frames / size:.4g}{unit}"
    return f"{frames:.4g}"


def score_text(score: float, digits: int | None = None) -> str:
    """`12,345`, `123.4`, `1.23`; a dash for nan. `digits` after the point, or as many as the size asks for."""
    if not math.isfinite(score):
        return "–"
    digits = decimals(score) if digits is None else digits
    text = f"{score:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.replace("-", "")


def decimals(score: float) -> int:
    """Digits after the point that a score of this size is written with."""
    return 0 if abs(score) >= 1000 else 1 if abs(score) >= 100 else 2


def spread_text(mean: float, std: float) -> str:
    """`12.30 ± 0.45`, or the mean alone where there is no deviation."""
    digits = decimals(mean) if math.isfinite(mean) else 0
    return score_text(mean, digits) + (f" ± {score_text(std, digits)}" if math.isfinite(std) else "")


def interval_text(point: float, low: float, high: float, digits: int = 3) -> str:
    """`0.434 [0.401, 0.470]`, or the point alone where there is no interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return score_text(point, digits)
    return f"{score_text(point, digits)} [{score_text(low, digits)}, {score_text(high, digits)}]"


def listed(items: Sequence[object], limit: int = 6) -> str:
    """`a, b and c`; only the first of many, with the number of the others."""
    words = [str(item) for item in items]
    if len(words) > limit:
        return f"{', '.join(words[:limit])} and {len(words) - limit} more"
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1] if words else ""]))


def plural(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def short_path(path: Path) -> str:
    """The last two parts of a path, which tell runs of a sweep apart."""
    return "/".join(path.parts[-2:])

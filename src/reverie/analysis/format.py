"""Numbers and names as text, tables and pages write them."""

import math
from collections.abc import Sequence
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any

Measures = SimpleNamespace
"""Named measures of one part of a run; JSON has the same names in the same order."""


def frames_text(frames: float) -> str:
    """Return `1M`, `250k`, `1.25M`, `996k`."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if frames >= 0.9995 * size:
            return f"{frames / size:.4g}{unit}"
    return f"{frames:.4g}"


def score_text(score: float, digits: int | None = None) -> str:
    """Return `12,345`, `123.4`, `1.23`; a dash for nan. `digits` after the point, by default as the size asks for."""
    if not math.isfinite(score):
        return "–"
    decimals = 0 if abs(score) >= 1000 else 1 if abs(score) >= 100 else 2
    text = f"{score:,.{decimals if digits is None else digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.replace("-", "")


def interval_text(point: float, low: float, high: float, digits: int = 3) -> str:
    """Return `0.434 [0.401, 0.470]`, or the point alone where there is no interval."""
    ends = f" [{score_text(low, digits)}, {score_text(high, digits)}]" if math.isfinite(low + high) else ""
    return score_text(point, digits) + ends


def listed(items: Sequence[object], limit: int = 6) -> str:
    """Return `a, b and c`; only the first of many, with the number of the others."""
    words = [str(item) for item in items]
    if len(words) > limit:
        words = [*words[:limit], f"{len(words) - limit} more"]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def plural(count: int, noun: str) -> str:
    """Return `1 seed`, `3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plain(value: Any, digits: int | None = None) -> Any:
    """Return a value for JSON: numbers that are not finite become None, others are rounded to significant digits."""
    if isinstance(value, Measures) or is_dataclass(value):
        value = vars(value)
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: plain(item, digits) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return value if digits is None else float(f"{value:.{digits}g}")

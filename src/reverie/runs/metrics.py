"""Rows of metrics in a run folder, read as they were written."""

import json
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

from reverie.errors import RunError

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
COUNTERS = ("step", "frames", "time", "updates")
"""Present in every row: agent steps, environment frames, wall seconds of the run, updates."""


def observation_losses(names: Iterable[str]) -> list[str]:
    """Those of these metrics that say how well observations are reconstructed, `model/KEY_loss`; `image` first."""
    others = {"model/reward_loss", "model/discount_loss", "model/kl_loss"}
    losses = {name for name in names if name.startswith("model/") and name.endswith("_loss")} - others
    return sorted(losses, key=lambda name: (name != "model/image_loss", name))


def _parse(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line of a metrics file, as it is and parsed; a last line that was cut short is left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for index, line in enumerate(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if index == len(lines) - 1:
                return
            row = None
        if not _is_row(row):
            raise RunError(
                f"{path}, line {index + 1} is damaged: it is not a row of metrics; remove that line and try again."
            )
        yield line, row


def _is_row(row: Any) -> bool:
    """Return whether it names its step and holds only numbers and lists of them; null stands for a non-finite one."""
    if not isinstance(row, dict) or type(row.get("step")) not in (int, float):
        return False
    values = (entry for value in row.values() for entry in (value if type(value) is list else [value]))
    return all(type(value) in (int, float, NoneType) for value in values)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    path = Path(path)
    path = path / METRICS_FILE if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"There are no metrics at {path}; give the folder of a run that has written {METRICS_FILE}.")
    for _, row in _parse(path):
        yield row


class Evaluation(NamedTuple):
    """Episodes played with the actor's mode at one step of a run."""

    step: int
    """Agent steps."""
    frames: int
    returns: tuple[float, ...]
    """Undiscounted, of raw rewards."""
    lengths: tuple[int, ...]
    """Agent steps."""


def read_evaluations(path: Path) -> list[Evaluation]:
    """Evaluations of a run, oldest first, with the return of each episode.

    Args:
        path: the `metrics.jsonl`, or the run folder that holds it.

    Raises:
        RunError: if there is no such file, or a line before the last is damaged.
    """
    return [
        Evaluation(row["step"], row["frames"], tuple(row["eval/returns"]), tuple(map(int, row["eval/lengths"])))
        for row in _rows(path)
        if "eval/returns" in row
    ]


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a `metrics.jsonl`, oldest first; what was written as null is nan.

    A last line that was cut short (the run was killed, or is writing it now) is left out, and so are lists, which
    `read_evaluations` reads.

    Args:
        path: the file, or the run folder that holds it.

    Raises:
        RunError: if there is no such file, or a line before the last is damaged.
    """
    return [
        {name: math.nan if value is None else value for name, value in row.items() if type(value) is not list}
        for row in _rows(path)
    ]


def kept_rows(path: Path, rows: int | None = None, step: float = math.inf, update: float = math.inf) -> list[str]:
    """Lines of a metrics file that a resumed run keeps; what follows the first `rows` is not looked at.

    Raises:
        RunError: if one of them is damaged.
    """
    if not path.exists():
        return []
    known = islice(_parse(path), rows or None)
    return [line + "\n" for line, row in known if row["step"] <= step and row.get("updates", 0) <= update]

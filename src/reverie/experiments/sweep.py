"""A sweep: a plan, the folder that it runs in, and what it has reached there."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reverie.errors import RunError
from reverie.experiments.board import Board, State
from reverie.experiments.cells import Cell
from reverie.experiments.plan import PLAN_FILE, Plan
from reverie.experiments.process import is_running
from reverie.experiments.run_status import Stage, read_failure, read_status
from reverie.runs.atomic_io import atomic_path
from reverie.runs.run_folder import RunFolder

FORMAT = 1


def survey(cells: Sequence[Cell], folder: Path, workers: int, clock: Callable[[], float] = time.monotonic) -> Board:
    """Read the status of every cell in the folder of a sweep.

    Raises:
        RunError: if a cell's folder holds a run with other settings than the plan has for it.
        ConfigError: if the configuration of a run there cannot be read.
    """
    board = Board(cells, workers, clock)
    strange: list[tuple[Cell, str]] = []
    for entry in board.of(State.WAITING):
        run = folder / entry.cell.place
        status = read_status(entry.cell, folder)
        entry.update_progress(status.progress, clock())
        if status.stage is Stage.OTHER:
            strange.append((entry.cell, status.differences[0]))
        elif status.stage is Stage.DONE:
            entry.state = State.DONE
        elif is_running(run):
            entry.state = State.ELSEWHERE
        else:
            failure = read_failure(run)
            entry.error = failure.error if failure else ""
    if strange:
        cell, difference = strange[0]
        more = f" (and {len(strange) - 1} more like it)" if len(strange) > 1 else ""
        raise RunError(
            f"{folder / cell.place} holds a run with other settings{more}: {difference}; undo that change, choose "
            f"another folder with --out, or remove that run to have it run again."
        )
    return board


def save_plan(plan: Plan, folder: Path) -> None:
    """Keep the plan in the folder, so that `reverie sweep FOLDER` continues it.

    Raises:
        RunError: if the folder holds another sweep, or something that is not one.
        ReverieError: if it cannot be written.
    """
    path = folder / PLAN_FILE
    if path.is_file():
        try:
            name = json.loads(path.read_text(encoding="utf-8"))["plan"]["name"]
        except (OSError, ValueError, KeyError, TypeError):
            raise RunError(f"{path} cannot be read; remove it, or choose another folder with --out.") from None
        if name != plan.name:
            raise RunError(f"{folder} holds the sweep '{name}' and not '{plan.name}'; choose another with --out.")
    elif RunFolder(folder).config_path.exists():
        raise RunError(f"{folder} holds a run and not a sweep; choose another folder with --out.")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, "plan": plan.to_json()}, indent=2) + "\n", encoding="utf-8")


def status(board: Board, plan: Plan, folder: Path) -> dict[str, Any]:
    """Return a board as plain JSON values."""
    found = board.estimate()
    return {
        "name": plan.name,
        "folder": str(folder),
        "workers": board.workers,
        "counts": {state.value: count for state, count in board.counts().items()},
        "fraction": round(board.fraction, 4),
        "seconds_left": None if found.seconds is None else round(found.seconds, 1),
        "cells_of_unknown_pace": found.unknown,
        "cells": [
            {
                "env": entry.cell.env,
                "variant": entry.cell.variant,
                "seed": entry.cell.seed,
                "preset": entry.cell.preset,
                "id": entry.cell.id,
                "folder": str(folder / entry.cell.place),
                "state": entry.state.value,
                "same_as": entry.cell.twin or None,
                "step": entry.progress.step,
                "steps": entry.cell.config.training.steps,
                "frames_per_second": entry.frames_per_second,
                "score": entry.progress.score,
                "score_of": None
                if entry.progress.score is None
                else "evaluation"
                if entry.progress.evaluated
                else "training",
                "error": entry.error or None,
            }
            for entry in board.entries
        ],
    }


def failures(board: Board) -> str:
    """Return a sentence that names the failed cells; empty if there are none."""
    failed = board.of(State.FAILED)
    if not failed:
        return ""
    named = "; ".join(f"{entry.cell.name}: {entry.error.rstrip('.')}" for entry in failed[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    total = len(board.entries) - len(board.of(State.SAME))
    return (
        f"{len(failed)} of {total} cells failed ({named}{more}); each one's cell.log says more, and the same command "
        "tries them again."
    )

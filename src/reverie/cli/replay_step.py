"""`reverie replay-step`: repeat an update that ended a run, and show which numbers are not finite."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reverie.cli.console import console

if TYPE_CHECKING:
    from reverie.training.failed_update import Numbers, Repeated

NUM_SHOWN = 5
"""Weights and gradients shown of each, those with the largest numbers; twice as many if they are not finite."""


@dataclass(frozen=True)
class ReplayStep:
    """Repeat an update that ended a run because it was not finite, and show where that begins."""

    folder: Path
    """In the folder `failures` of the run; only read."""
    device: Literal["auto", "cpu", "cuda"] | None = None
    """Device of the update; None is that of the run."""
    json: bool = False
    """Print one JSON object with all numbers, instead of those that say most."""

    def __call__(self) -> None:
        from reverie.training.failed_update import repeat

        found = repeat(self.folder, self.device)
        if self.json:
            print(json.dumps(found.to_json()))
        else:
            console().print(*page(found), sep="\n", markup=True)


def page(found: "Repeated") -> list[str]:
    """Return the numbers that say most, in rich's markup."""
    what = "of the world model alone" if found.world_model_alone else "of world model, actor and critic"
    again = "the same numbers as then" if found.same else "[yellow]other numbers than then[/]"
    lines = [f"[bold]Update {found.update:,}[/] {what}, at step {found.step:,}: made again, it gives {again}."]
    if all(map(math.isfinite, found.now.values())):
        lines.append("[yellow]Every number is finite now[/]: device, threads or version are perhaps others.")
    others = [name for name in found.now if name.endswith(("loss", "_norm")) and name not in found.not_finite]
    lines += ["", "[bold]Metrics[/]"]
    for name in (*found.not_finite, *others):
        if (value := found.now.get(name)) is not None:
            lines.append(f"  {name:34}" + (f"{value:.4g}" if math.isfinite(value) else f"[bold red]{value}[/]"))
    broken = sum(entry.not_finite > 0 for entry in found.gradients)
    lines += ["", "[bold]Batch[/]", *map(_line, found.batch)]
    lines += ["", "[bold]Weights before it[/]", *_most_telling(found.weights)]
    lines += ["", f"[bold]Gradients[/], {broken} of {len(found.gradients)} not finite", *_most_telling(found.gradients)]
    return lines


def _most_telling(entries: "Sequence[Numbers]") -> list[str]:
    """Return lines of those that are not finite, or else of the largest."""
    if not (broken := [entry for entry in entries if entry.not_finite]):
        return [_line(entry) for entry in sorted(entries, key=lambda entry: -entry.largest)[:NUM_SHOWN]]
    left = len(broken) - 2 * NUM_SHOWN
    more = [f"  and {left} more (--json has all of them)"] if left > 0 else []
    return [*map(_line, broken[: 2 * NUM_SHOWN]), *more]


def _line(entry: "Numbers") -> str:
    shape = "x".join(map(str, entry.shape)) or "1"
    bad = f"  [bold red]{entry.not_finite:,} not finite[/]" if entry.not_finite else ""
    return f"  {entry.name:46}{shape:>14}  at most {entry.largest:.4g}{bad}"

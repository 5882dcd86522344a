"""`reverie replay-step`: makes an update that ended a run again, and shows which numbers are not finite."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reverie.cli.console import console

if TYPE_CHECKING:
    from reverie.training.failed_update import Numbers, Repeated

SHOWN = 5
"""Weights and gradients shown of each, those with the largest numbers."""


@dataclass(frozen=True)
class ReplayStep:
    """Make an update again that ended a run because it was not finite, and show where that begins."""

    folder: Path
    """In the folder `failures` of the run; only read."""
    device: Literal["auto", "cpu", "cuda"] | None = None
    """Where to compute; None is where the run did."""
    json: bool = False
    """Print one JSON object with all numbers, instead of the most telling ones."""

    def __call__(self) -> None:
        from reverie.training.failed_update import repeat

        found = repeat(self.folder, self.device)
        if self.json:
            print(json.dumps(found.to_json()))
            return
        for line in page(found):
            console().print(line, highlight=False)


def page(found: "Repeated") -> list[str]:
    """The most telling numbers, in rich's markup."""
    what = "of the world model alone" if found.world_model_alone else "of world model, actor and critic"
    again = "the same numbers as then" if found.same else "[yellow]other numbers than then[/]"
    lines = [f"[bold]Update {found.update:,}[/] {what}, at step {found.step:,}: made again, it gives {again}."]
    if all(map(math.isfinite, found.now.values())):
        lines.append("[yellow]Every number is finite now[/]: device, threads or version are perhaps others.")
    broken, model = found.not_finite, ""
    if any(name.startswith("model/") for name in broken):
        model = "world_model."
        broken = tuple(name for name in broken if name.startswith("model/"))
        if not found.world_model_alone:
            lines.append("The world model could not learn, and so gave actor and critic nothing to learn from.")
    lines += ["", "[bold]Metrics[/]"]
    others = [name for name in found.now if name.endswith(("loss", "_norm")) and name not in found.not_finite]
    lines += [f"  {name:34}{_value(found.now[name])}" for name in (*broken, *others) if name in found.now]
    lines += ["", "[bold]Batch[/]", *map(_line, found.batch)]
    spoiled = [entry for entry in found.weights if entry.not_finite]
    lines += ["", "[bold]Weights before it[/]", *map(_line, spoiled or _largest(found.weights))]
    gradients = [entry for entry in found.gradients if entry.name.startswith(model)]
    spoiled = [entry for entry in gradients if entry.not_finite]
    left = len(spoiled) - 2 * SHOWN
    lines += ["", f"[bold]Gradients[/], {len(spoiled)} of {len(gradients)} not finite"]
    lines += map(_line, spoiled[: 2 * SHOWN] or _largest(gradients))
    if left > 0:
        lines.append(f"  and {left} more (--json has all of them)")
    return lines


def _value(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else f"[bold red]{value}[/]"


def _largest(entries: "Sequence[Numbers]") -> "list[Numbers]":
    return sorted(entries, key=lambda entry: -entry.largest)[:SHOWN]


def _line(entry: "Numbers") -> str:
    shape = "x".join(map(str, entry.shape)) or "1"
    bad = f"  [bold red]{entry.not_finite:,} not finite[/]" if entry.not_finite else ""
    return f"  {entry.name:46}{shape:>14}  at most {entry.largest:.4g}{bad}"

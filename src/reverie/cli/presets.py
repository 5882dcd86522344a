"""`reverie presets`: list the presets."""

import json
from dataclasses import dataclass

from rich.table import Table

from reverie.cli.options import console, parse
from reverie.config import PRESETS, to_dict


@dataclass(frozen=True)
class Presets:
    """List the presets; reverie config PRESET prints one of them in full."""

    json: bool = False
    """Names and configurations as one JSON object."""


def run(argv: list[str]) -> None:
    """Print."""
    command, _ = parse("presets", Presets, argv)
    if command.json:
        print(json.dumps({name: to_dict(entry.config) for name, entry in PRESETS.items()}))
        return
    table = Table("preset", "what it is", "agent steps", "update every", "batch")
    for entry in PRESETS.values():
        training, replay = entry.config.training, entry.config.replay
        table.add_row(
            f"[bold cyan]{entry.name}[/]",
            entry.description,
            f"{training.steps:,}",
            f"{training.train_every / training.train_steps:g} steps",
            f"{replay.batch_size} x {replay.batch_length}",
        )
    console().print(table)

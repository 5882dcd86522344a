"""`reverie variants`: list the variants of the agent."""

import json
from dataclasses import dataclass

from rich.table import Table

from reverie.cli.options import console, parse
from reverie.cli.train import show
from reverie.config import VARIANTS


@dataclass(frozen=True)
class Variants:
    """List the variants of the agent: named settings for reverie train ENV --variant NAME, on top of any preset."""

    json: bool = False
    """Names and settings as one JSON object."""


def run(argv: list[str]) -> None:
    """Print."""
    command, _ = parse("variants", Variants, argv)
    if command.json:
        print(json.dumps({name: dict(entry.settings) for name, entry in VARIANTS.items()}))
        return
    table = Table("variant", "what it is", "settings")
    for entry in VARIANTS.values():
        settings = "\n".join(f"{path}={show(value)}" for path, value in entry.settings.items())
        table.add_row(f"[bold cyan]{entry.name}[/]", entry.description, settings)
    console().print(table)

"""`reverie verify`: whether a run is what was stored."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reverie.cli.options import console, parse
from reverie.errors import RunError


@dataclass(frozen=True)
class Verify:
    """Compare every file of a run with its checksum, and name what is damaged.

    The exit status is 1 if anything is. Nothing is changed without --repair.
    """

    run: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    repair: bool = False
    """Leave damaged steps out of the replay permanently, and put damaged checkpoints aside, so that the run can be
    resumed."""
    json: bool = False
    """Print one JSON object instead of lines."""


def run(argv: list[str]) -> None:
    """Verify and print."""
    command, _ = parse("verify", Verify, argv)

    from reverie.runs.verify import repair, verify

    if command.repair:
        for text in repair(command.run):
            (console(stderr=True) if command.json else console()).print(f"[bold]repaired[/]   {text}", highlight=False)
    found = verify(command.run)
    if command.json:
        print(json.dumps(asdict(found)))
    else:
        out = console()
        for text in found.valid:
            out.print(f"[green]valid[/]      {text}", highlight=False)
        for text in found.unchecked:
            out.print(f"[dim]unchecked[/]  {text}", highlight=False)
        for each in found.damage:
            out.print(f"[bold red]damaged[/]    {each.path} {each.what}.", highlight=False)
            out.print(f"           To do: {each.remedy}.", highlight=False)
    if found.damage:
        count = len(found.damage)
        raise RunError(f"{command.run}: {count} {'thing is' if count == 1 else 'things are'} not as stored; see above.")

"""`reverie verify`: whether a run is what was stored."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from reverie.cli.console import console
from reverie.errors import RunError


@dataclass(frozen=True)
class Verify:
    """Compare every file of a run with its checksum, and name what is damaged.

    The exit status is 1 if anything is. Nothing is changed without --repair.
    """

    run: Path
    """Folder of the run."""
    repair: bool = False
    """Leave damaged steps out of the replay permanently, and put damaged checkpoints aside, so that the run can be
    resumed."""
    json: bool = False
    """Print one JSON object instead of lines."""

    def __call__(self) -> None:
        from reverie.runs.verify import repair, verify

        if self.repair:
            for text in repair(self.run):
                (console(stderr=True) if self.json else console()).print(f"[bold]repaired[/]   {text}", highlight=False)
        found = verify(self.run)
        if self.json:
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
            raise RunError(
                f"{self.run}: {count} {'thing is' if count == 1 else 'things are'} not as stored; see above."
            )

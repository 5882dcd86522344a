"""`reverie verify`: compare a run with its checksums."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from reverie.cli.console import say
from reverie.errors import RunError


@dataclass(frozen=True)
class Verify:
    """Compare every file of a run with its checksum, and name what is damaged.

    The exit status is 1 if anything is. Nothing is changed without --repair.
    """

    run: Path
    """Folder of the run."""
    repair: bool = False
    """Delete the damaged steps of the replay, and put damaged checkpoints aside, so that the run can be resumed."""
    json: bool = False
    """Print one JSON object instead of lines."""

    def __call__(self) -> None:
        from reverie.runs.verify import repair, verify

        for text in repair(self.run) if self.repair else ():
            say(("repaired   ", "bold"), text, stderr=self.json)
        found = verify(self.run)
        if self.json:
            print(json.dumps(asdict(found)))
        else:
            for text in found.valid:
                say(("valid      ", "green"), text)
            for text in found.unchecked:
                say(("unchecked  ", "dim"), text)
            for each in found.damage:
                say(("damaged    ", "bold red"), f"{each.path} {each.what}.\n           To do: {each.remedy}.")
        if count := len(found.damage):
            things = "1 thing is" if count == 1 else f"{count} things are"
            raise RunError(f"{self.run}: {things} not as stored; see above.")

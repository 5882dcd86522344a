"""`reverie digest`: one hash for everything that a run has computed."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Digest:
    """Print one hash over everything that a run has computed, as of its newest checkpoint.

    Two runs with equal digests are the same bit for bit: weights, optimizers, random generators, replay, environments,
    metrics but for times, videos. A run that was stopped and resumed has the digest of one that was not.
    """

    run: Path
    """Folder of the run."""
    parts: bool = False
    """Print the hash of each part, too, to see which one differs."""
    json: bool = False
    """Print one JSON object with all of them."""

    def __call__(self) -> None:
        from reverie.runs.digest import digest

        found = digest(self.run)
        if self.json:
            print(json.dumps(found))
        elif self.parts:
            print("\n".join(f"{value}  {name}" for name, value in found.items()))
        else:
            print(found["run"])

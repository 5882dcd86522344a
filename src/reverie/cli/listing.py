"""`reverie list`: presets, variants, environments and runs."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import tyro
from rich.table import Table
from rich.text import Text

from reverie.cli.console import console, show, unknown
from reverie.config import PRESETS, VARIANTS, nearest, to_dict

SHOWN = 6
"""Number of ids of a family in the overview."""


@dataclass(frozen=True)
class Presets:
    """List the presets; reverie config PRESET prints one of them in full."""

    json: bool = False
    """Print names and configurations as one JSON object."""

    def __call__(self) -> None:
        if self.json:
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


@dataclass(frozen=True)
class Variants:
    """List the variants of the agent: named settings for reverie train ENV --variant NAME, on top of any preset."""

    json: bool = False
    """Print names and settings as one JSON object."""

    def __call__(self) -> None:
        if self.json:
            print(json.dumps({name: dict(entry.settings) for name, entry in VARIANTS.items()}))
            return
        table = Table("variant", "what it is", "settings")
        for entry in VARIANTS.values():
            settings = "\n".join(f"{path}={show(value)}" for path, value in entry.settings.items())
            table.add_row(f"[bold cyan]{entry.name}[/]", entry.description, settings)
        console().print(table)


@dataclass(frozen=True)
class Envs:
    """List the environments that are installed, and what to install for more.

    Any Gymnasium id will do, also as module:id for packages that register their own.
    """

    family: str | None = None
    """Print all ids of one family, one a line: --family atari."""
    json: bool = False
    """Print all ids as one JSON object, by family."""

    def __call__(self) -> None:
        from reverie.envs import list_envs

        listings = {listing.title: listing for listing in list_envs()}
        if self.json:
            print(json.dumps({title: listing.ids for title, listing in listings.items() if not listing.install}))
            return
        if self.family is not None:
            title = next((title for title in listings if title.lower() == self.family.lower()), None)
            if title is None:
                near = nearest(self.family, listings, 1)
                unknown("There is no family", self.family, near, f"; there are {', '.join(listings)}.")
            print("\n".join(listings[title].ids))
            return
        table = Table("family", "number", "ids", "to install")
        for title, listing in listings.items():
            few = ", ".join(islice(listing.ids, SHOWN)) + (", ..." if len(listing.ids) > SHOWN else "")
            count = str(len(listing.ids)) if listing.ids else ""
            table.add_row(f"[bold cyan]{title}[/]", count, few, listing.install.replace("[", r"\["))
        console().print(table)
        console().print("reverie list envs --family NAME prints all of a family.")


@dataclass(frozen=True)
class Runs:
    """List the runs in a folder, with their progress and latest score."""

    folder: tyro.conf.Positional[Path] = Path("runs")
    """Folder that holds runs, up to four levels down; a run or a sweep will do."""
    json: bool = False
    """Print one JSON object per line, one for each run."""

    def __call__(self) -> None:
        from reverie.analysis.runs import find_runs

        runs, unreadable = find_runs([self.folder])
        table = Table("run", "environment", "agent", "seed", "status", "steps", "return")
        for run in runs:
            steps = int(run.rows[-1]["step"])
            scores = run.evaluation if len(run.evaluation) else run.training
            score = float(scores.values[-1]) if len(scores) else None
            if self.json:
                facts = {"environment": run.environment, "agent": run.label, "seed": run.seed, "status": run.status}
                planned = {"steps": steps, "planned_steps": run.config.training.steps, "return": score}
                print(json.dumps({"run": str(run.path), **facts, **planned}))
            cells = (str(run.path), run.environment, run.label, str(run.seed), run.status)
            done = f"{steps:,} of {run.config.training.steps:,}"
            table.add_row(*map(Text, cells), done, "" if score is None else f"{score:,.2f}")
        if not self.json:
            console().print(table)
        for each in unreadable:
            console(stderr=True).print(f"{each.path} is left out. {each.reason}", markup=False, soft_wrap=True)


LISTINGS = {"presets": Presets, "variants": Variants, "envs": Envs, "runs": Runs}

"""`reverie list`: presets, variants, environments and runs."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from reverie.cli.console import UsageError, print_table, say
from reverie.config import PRESETS, VARIANTS, as_text, did_you_mean, to_dict


@dataclass(frozen=True)
class Presets:
    """List the presets; reverie config PRESET prints one of them in full."""

    json: bool = False
    """Print names and configurations as one JSON object."""

    def __call__(self) -> None:
        if self.json:
            print(json.dumps({name: to_dict(entry.config) for name, entry in PRESETS.items()}))
            return
        rows = []
        for name, entry in PRESETS.items():
            training, replay = entry.config.training, entry.config.replay
            every, batch = training.train_every / training.train_steps, f"{replay.batch_size} x {replay.batch_length}"
            rows.append((name, entry.description, f"{training.steps:,}", f"{every:g} steps", batch))
        print_table(("preset", "what it is", "agent steps", "update every", "batch"), rows)


@dataclass(frozen=True)
class Variants:
    """List the variants of the agent: named settings for reverie train ENV --variant NAME, on top of any preset."""

    json: bool = False
    """Print names and settings as one JSON object."""

    def __call__(self) -> None:
        if self.json:
            print(json.dumps({name: dict(entry.settings) for name, entry in VARIANTS.items()}))
            return
        rows = [
            (name, entry.description, "\n".join(f"{path}={as_text(value)}" for path, value in entry.settings.items()))
            for name, entry in VARIANTS.items()
        ]
        print_table(("variant", "what it is", "settings"), rows)


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

        families = {listing.title: listing for listing in list_envs()}
        if self.json:
            print(json.dumps({title: entry.ids for title, entry in families.items() if not entry.install}))
        elif self.family is not None:
            by_name = {title.lower(): entry.ids for title, entry in families.items()}
            if self.family.lower() not in by_name:
                ending = did_you_mean(self.family, families, "there are")
                raise UsageError(f"There is no family '{self.family}'{ending}")
            print("\n".join(by_name[self.family.lower()]))
        else:
            rows = []
            for title, entry in families.items():
                ids = ", ".join(entry.ids[:6]) + (", ..." if len(entry.ids) > 6 else "")
                rows.append((title, str(len(entry.ids) or ""), ids, entry.install))
            print_table(("family", "number", "ids", "to install"), rows)
            say("reverie list envs --family NAME prints all of a family.")


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
        rows = []
        for run in runs:
            steps, planned = int(run.rows[-1]["step"]), run.config.training.steps
            curves = map(run.curve, ("eval/return", "episode/return"))
            score = next((float(line.values[-1]) for line in curves if len(line)), None)
            known = {"run": str(run.path), "environment": run.environment, "agent": run.label, "seed": run.seed}
            known["status"] = run.status
            if self.json:
                print(json.dumps({**known, "steps": steps, "planned_steps": planned, "return": score}))
            shown = "" if score is None else f"{score:,.2f}"
            rows.append((*map(str, known.values()), f"{steps:,} of {planned:,}", shown))
        if not self.json:
            print_table(("run", "environment", "agent", "seed", "status", "steps", "return"), rows)
        for each in unreadable:
            say(f"{each.path} is left out. {each.reason}", stderr=True)

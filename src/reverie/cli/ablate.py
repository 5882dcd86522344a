"""`reverie ablate`: the article's ablations as a sweep, and its table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table

from reverie.cli.options import Base, UsageError, console, given, parse
from reverie.cli.sweep import carry_out, with_budget
from reverie.cli.train import base_of
from reverie.config import preset
from reverie.errors import ConfigError

if TYPE_CHECKING:
    from reverie.experiments.cells import Cell

SEEDS = 3


@dataclass(frozen=True)
class Ablate:
    """Train the full agent and the article's ablations, then count where each is better, worse or tied.

    Counts are by the paper's rule, and by what Welch's intervals support. The ablations are the article's six, and the
    GRU without layer norm; the full agent has both actor gradients. A suite or plan is run as reverie sweep runs it,
    with its own agents; one that has only `full` gets all ablations. The command is a sweep, and resumes one. Every
    setting is an option, as for reverie train, and holds for all agents.
    """

    environments: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ENV...")]
    """Gymnasium ids; none for those of the suite."""
    preset: Annotated[
        str | None, tyro.conf.arg(metavar="PRESET", help_behavior_hint="(default: by the environment)")
    ] = None
    """Where settings start from, for the environments that are named here."""
    suite: str | None = None
    """Environments, agents and budgets: laptop, quick, evening, boxing, or a plan (TOML). Without ENV: laptop."""
    seeds: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=f"(default: the suite's, or {SEEDS})")
    ] = None
    """Seeds of each agent: 0, 1, ..."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/ablation-SUITE)")] = (
        None
    )
    """Folder of the sweep, and of the table."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the suite's, or 1)")] = (
        None
    )
    """Runs at a time."""
    threads: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the suite's, or 0)")] = (
        None
    )
    """CPU threads of each; 0 divides the usable cores by the workers."""
    retry: int = 0
    """Times that a failing run is tried again at once."""
    report: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Only make the table of what is in the folder of a sweep."""
    dry_run: bool = False
    """Only print the grid, what is done of it, and what the rest will take."""
    json: bool = False
    """Print the table as one JSON object on the last line."""


def run(argv: list[str]) -> None:
    """Run the sweep, then write the table; or only the latter."""
    command, settings = parse("ablate", Ablate, argv, _base_for_help)
    _check(command, settings)

    from reverie.experiments import ablate
    from reverie.experiments.cells import cells
    from reverie.experiments.plan import find_plan, parse_plan, read_plan

    if command.report is not None:
        _report(cells(read_plan(find_plan(str(command.report)))), command.report, command.json)
        return
    checked = parse_plan({"environments": ["any"], "settings": settings}, "reverie ablate", "ablation").settings
    if command.environments:
        count = SEEDS if command.seeds is None else command.seeds
        plan = ablate.plan_of(command.environments, command.preset, count, checked)
        folder = command.out or Path("runs/ablation")
    else:
        suite = read_plan(find_plan(command.suite or "laptop"))
        plan = ablate.ablated(suite, command.seeds, checked)
        folder = command.out or Path(f"runs/ablation-{suite.name}")
    plan = with_budget(plan, command.workers, command.threads)
    grid = cells(plan)
    try:
        carry_out(plan, grid, folder, command.retry, command.dry_run, as_json=False)
    finally:
        # What failed or was stopped is named in the table, and the rest is there.
        if not command.dry_run and folder.is_dir():
            _report(grid, folder, command.json)


def _check(command: Ablate, settings: dict[str, object]) -> None:
    if command.environments and command.suite:
        raise UsageError("Give environments or --suite, not both: a suite has its own environments.")
    if command.preset is not None and not command.environments:
        raise UsageError("--preset goes with environments that are named; a suite has its own presets.")
    if command.seeds is not None and command.seeds < 1:
        raise UsageError(f"--seeds is {command.seeds}, but at least 1 is needed.")
    if command.report is not None and (command.environments or command.suite or settings):
        raise UsageError("--report takes environments and settings from the folder; leave the others out.")
    if command.report is not None and not command.report.is_dir():
        raise UsageError(f"--report: there is no folder {command.report}; name the folder of an ablation (--out).")


def _report(grid: "Sequence[Cell]", folder: Path, as_json: bool) -> None:
    from reverie.analysis import ablation_table
    from reverie.experiments.ablate import compare

    rows, facts = compare(grid, folder)
    out = console(stderr=as_json)
    table = Table(*ablation_table.HEADER)
    for line in ablation_table.counts_table(rows):
        table.add_row(*line)
    out.print(table)
    for note in ablation_table.notes(rows, facts):
        out.print(note, markup=False, soft_wrap=True)
    paths = ablation_table.write(rows, facts, folder)
    out.print(f"Wrote {', '.join(str(path) for path in paths)}", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps(ablation_table.as_json(rows, facts)))


def _base_for_help(argv: list[str]) -> Base:
    taken = ("preset", "suite", "seeds", "out", "workers", "threads", "retry", "report")
    values = {given(argv, f"--{option}") for option in taken}
    names = [argument for argument in argv if not argument.startswith("-") and argument not in values]
    if names or given(argv, "--preset"):
        return base_of(given(argv, "--preset"), names[0] if names else None, "minatar")

    from reverie.experiments.plan import find_plan, read_plan

    try:
        plan = read_plan(find_plan(given(argv, "--suite") or "laptop"))
    except ConfigError as error:
        return Base(preset("minatar"), f"preset minatar, since the suite cannot be read. {error}")
    task = plan.tasks[0]
    base = base_of(task.preset, task.env, "minatar")
    config = base.config.override(**{**plan.settings, **task.settings})
    return Base(config, f"{base.origin.removesuffix('.')} for {task.env}, with the settings of plan {plan.name}.")

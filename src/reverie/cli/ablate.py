"""`reverie ablate`: the article's ablations as a sweep, and its table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from reverie.cli.console import UsageError, console
from reverie.cli.parser import Base, SettingsCommand
from reverie.cli.sweep import Scheduled
from reverie.cli.train import base_of
from reverie.config import preset
from reverie.errors import ConfigError

if TYPE_CHECKING:
    from reverie.sweeps.planned_runs import PlannedRun

SEEDS = 3


@dataclass(frozen=True)
class Ablate(SettingsCommand, Scheduled):
    """Train the full agent and the article's ablations, then count where each is better, worse or tied.

    Counts are by the paper's rule, and by what Welch's intervals support. The ablations are the article's six, and the
    GRU without layer norm; the full agent has both actor gradients. A suite or plan is run as reverie sweep runs it,
    with its own agents; one that has only `full` gets all ablations. The command is a sweep, and resumes one. Every
    setting is an option, as for reverie train, and holds for all agents.
    """

    env: tuple[str, ...]
    """Gymnasium ids; none for those of the suite."""
    preset: str | None = None
    """Settings to start from; by default those for each ENV."""
    suite: str | None = None
    """Environments, agents and budgets: cpu-all, minatar-quick, minatar-decisive, boxing, or a plan (TOML). Without
    ENV: cpu-all."""
    seeds: int | None = None
    """Number of seeds of each agent: 0, 1, ...; by default the suite's, or 3."""
    report: Path | None = None
    """Only make the table of what is in the folder of a sweep."""

    def __call__(self) -> None:
        self._check()

        from reverie.sweeps.ablation import ablated, ablation_plan
        from reverie.sweeps.plan import find_plan, parse_plan, read_plan
        from reverie.sweeps.planned_runs import planned_runs

        if self.report is not None:
            _report(planned_runs(read_plan(find_plan(str(self.report)))), self.report, self.json)
            return
        table = {"environments": ["any"], "settings": self.settings}
        settings = parse_plan(table, "reverie ablate", "ablation").settings
        if self.env:
            count = SEEDS if self.seeds is None else self.seeds
            plan = ablation_plan(self.env, self.preset, count, settings)
            folder = self.out or Path("runs/ablation")
        else:
            suite = read_plan(find_plan(self.suite or "cpu-all"))
            plan = ablated(suite, self.seeds, settings)
            folder = self.out or Path(f"runs/ablation-{suite.name}")
        plan = self.with_budget(plan)
        runs = planned_runs(plan)
        try:
            self.train(plan, runs, folder, print_status=False)
        finally:
            # Runs that failed or were stopped are named in the table of the others.
            if not self.dry_run and folder.is_dir():
                _report(runs, folder, self.json)

    def base(self) -> Base:
        """Return the configuration of the first environment."""
        if self.env or self.preset:
            return base_of(self.preset, next(iter(self.env), None), "minatar")

        from reverie.sweeps.plan import find_plan, read_plan

        try:
            plan = read_plan(find_plan(self.suite or "cpu-all"))
        except ConfigError as error:
            return Base(preset("minatar"), f"preset minatar, since the suite cannot be read. {error}")
        task = plan.tasks[0]
        base = base_of(task.preset, task.env, "minatar")
        config = base.config.override(**{**plan.settings, **task.settings})
        return Base(config, f"{base.origin.removesuffix('.')} for {task.env}, with the settings of plan {plan.name}.")

    def _check(self) -> None:
        if self.env and self.suite:
            raise UsageError("Give environments or --suite, not both: a suite has its own environments.")
        if self.preset is not None and not self.env:
            raise UsageError("--preset goes with environments that are named; a suite has its own presets.")
        if self.seeds is not None and self.seeds < 1:
            raise UsageError(f"--seeds is {self.seeds}, but at least 1 is needed.")
        if self.report is not None and (self.env or self.suite or self.settings):
            raise UsageError("--report takes environments and settings from the folder; leave the others out.")
        if self.report is not None and not self.report.is_dir():
            raise UsageError(f"--report: there is no folder {self.report}; name the folder of an ablation (--out).")


def _report(runs: "Sequence[PlannedRun]", folder: Path, as_json: bool) -> None:
    from reverie.analysis import ablation_table
    from reverie.sweeps.ablation import compare

    rows, facts = compare(runs, folder)
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

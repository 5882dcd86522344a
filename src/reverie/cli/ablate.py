"""`reverie ablate`: the article's ablations as a sweep, and its table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.cli.console import console, print_table, require, require_positive, say
from reverie.cli.parser import Base, SettingsCommand
from reverie.cli.sweep import Grid
from reverie.cli.train import base_of

if TYPE_CHECKING:
    from reverie.sweeps.plan import Plan
    from reverie.sweeps.planned_runs import PlannedRun


@dataclass(frozen=True)
class Ablate(SettingsCommand, Grid):
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
    json: bool = False
    """Print the table as one JSON object on the last line."""

    def __call__(self) -> None:
        require(not self.env or not self.suite, "Give environments or --suite, not both: a suite has its own.")
        require(self.env or self.preset is None, "--preset goes with environments; a suite has its own presets.")
        require_positive(self, "seeds")

        from reverie.sweeps.ablation import ablated
        from reverie.sweeps.plan import find_plan, read_plan
        from reverie.sweeps.planned_runs import planned_runs

        if self.report is not None:
            others = "--report takes environments and settings from the folder; leave the others out."
            require(not (self.env or self.suite or self.settings), others)
            self._print_table(planned_runs(read_plan(find_plan(str(self.report)))), self.report)
            return
        plan = self.with_budget(ablated(self._plan(), self.seeds, self.settings))
        folder = self.out or Path("runs/ablation" if self.env else f"runs/ablation-{plan.name}")
        runs = planned_runs(plan)
        try:
            self.train(plan, runs, folder)
        finally:
            # Runs that failed or were stopped are named in the table of the others.
            if not self.dry_run and folder.is_dir():
                self._print_table(runs, folder)

    def base(self) -> Base:
        """Return the configuration of the first environment."""
        plan = self._plan()
        task = plan.tasks[0]
        settings = plan.settings | task.settings
        base = base_of(task.preset, task.env, "minatar", settings)
        return Base(base.config.override(**settings))

    def _plan(self) -> "Plan":
        from reverie.sweeps.ablation import ablation_plan
        from reverie.sweeps.plan import find_plan, read_plan

        return ablation_plan(self.env, self.preset) if self.env else read_plan(find_plan(self.suite or "cpu-all"))

    def _print_table(self, runs: "Sequence[PlannedRun]", folder: Path) -> None:
        from reverie.analysis import ablations
        from reverie.sweeps.ablation import compare

        rows, facts = compare(runs, folder)
        print_table(ablations.HEADER, ablations.counts_table(rows), out=console(stderr=self.json))
        paths = ablations.write(rows, facts, folder)
        for line in (*ablations.notes(rows, facts), f"Wrote {', '.join(map(str, paths))}"):
            say(line, stderr=self.json)
        if self.json:
            print(json.dumps(ablations.as_json(rows, facts)))

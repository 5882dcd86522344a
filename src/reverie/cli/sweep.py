"""`reverie sweep`: run a grid of environments x variants x seeds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reverie.cli.console import console, require, require_positive
from reverie.errors import RunError
from reverie.shell import command_line

if TYPE_CHECKING:
    from reverie.sweeps.plan import Plan
    from reverie.sweeps.planned_runs import PlannedRun


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """Options of a command that trains the runs of a plan."""

    out: Path | None = None
    """Folder of the sweep, by default runs/PLAN or runs/ablation-SUITE. Its runs are in DIR/ENV/VARIANT/seed-N."""
    workers: int | None = None
    """Number of runs at a time; by default the plan's."""
    threads: int | None = None
    """CPU threads of each; 0 divides the usable cores by the workers. By default the plan's."""
    retry: int = 0
    """Number of times that a failing run is tried again at once. The next call of the command tries it again anyway."""
    dry_run: bool = False
    """Only print the grid, its progress, and an estimate of the remaining time."""
    json: bool = False
    """Print the result as one JSON object on the last line."""

    def with_budget(self, plan: "Plan") -> "Plan":
        """Return a plan with the workers and threads of the command line."""
        require_positive(self, "workers")
        require((self.threads or 0) >= 0, f"--threads is {self.threads}, but it must not be negative.")
        given: dict[str, Any] = {"workers": self.workers, "threads": self.threads}
        return replace(plan, **{name: value for name, value in given.items() if value is not None})

    def train(self, plan: "Plan", runs: "Sequence[PlannedRun]", folder: Path, print_status: bool) -> None:
        """Train the runs of a plan in a folder, or only print their progress.

        Raises:
            RunError: if a run has failed, after all others.
            Interrupted: if it was stopped.
        """
        from reverie.sweeps.planned_runs import duplicates
        from reverie.sweeps.scheduler import Scheduler, save_plan, survey
        from reverie.sweeps.view import SweepView, counts_words, estimate_words, grid_table
        from reverie.training.stop_signal import Interrupted

        out = console(stderr=print_status)
        sweep = survey(plan, runs, folder)
        if sentence := duplicates(runs):
            out.print(sentence, markup=False, soft_wrap=True)
        try:
            if self.dry_run:
                out.print(grid_table(sweep))
                left = estimate_words(sweep.estimate())
                out.print(f"{folder}: {counts_words(sweep)}; {sweep.workers} at a time; {left}.", markup=False)
            else:
                save_plan(plan, folder)
                with SweepView(sweep, out) as view:
                    Scheduler(sweep, view, retry=self.retry, keep_replay=plan.keep_replay).run()
        except Interrupted as stopped:
            own = next((run.env for run in runs if ":" in run.env), "")
            again = command_line("sweep", folder, env=own)
            raise Interrupted(f"Stopped; continue with `{again}`.", stopped.signal) from None
        finally:
            if print_status:
                print(json.dumps(sweep.to_json()))
        if problem := sweep.failures():
            raise RunError(problem)


@dataclass(frozen=True)
class Sweep(Scheduled):
    """Train every run of a grid, environments x variants x seeds.

    The same command continues a sweep: finished runs are kept, interrupted ones resume from their checkpoints, failed
    ones are tried again. docs/experiments.md says how a plan is written.
    """

    plan: str
    """A plan (TOML), the folder of a sweep, or one that comes with the package: cpu-all, minatar-quick,
    minatar-decisive or boxing."""

    def __call__(self) -> None:
        from reverie.sweeps.plan import PLAN_FILE, find_plan, read_plan
        from reverie.sweeps.planned_runs import planned_runs

        path = find_plan(self.plan)
        plan = self.with_budget(read_plan(path))
        in_folder = path.parent if path.name == PLAN_FILE else None
        self.train(plan, planned_runs(plan), self.out or in_folder or Path("runs") / plan.name, self.json)

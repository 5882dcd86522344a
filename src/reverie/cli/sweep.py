"""`reverie sweep`: run a grid of environments, variants, settings and seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reverie.cli.console import console, require, require_positive, say
from reverie.errors import RunError
from reverie.shell import command_line

if TYPE_CHECKING:
    from reverie.sweeps.plan import Plan
    from reverie.sweeps.planned_runs import PlannedRun
    from reverie.sweeps.processes import Process


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """Options of a command that trains runs."""

    out: Path | None = None
    """Folder of its runs; by default one in runs, named by the plan."""
    workers: int | None = None
    """Number of runs at a time; by default the plan's."""
    threads: int | None = None
    """CPU threads of each; 0 divides the usable cores by the workers. By default the plan's."""
    engine: Literal["local", "ray"] = "local"
    """Place where runs are trained: this machine, or a Ray cluster whose machines share the folder. The cluster trains
    as many at a time as have their `resources`."""
    address: str = "auto"
    """With --engine ray: auto finds the cluster that runs here, HOST:PORT another one, local starts one here."""

    def with_budget(self, plan: "Plan") -> "Plan":
        """Return a plan with the workers and threads of the command line."""
        require_positive(self, "workers")
        require((self.threads or 0) >= 0, f"--threads is {self.threads}, but it must not be negative.")
        threads = plan.threads if self.threads is None else self.threads
        if self.engine == "ray":
            threads = threads or max(1, int(plan.resources.get("cpus", 1)))
        return replace(plan, workers=self.workers or plan.workers, threads=threads)

    def process(self, plan: "Plan") -> "Callable[[list[str], Path], Process]":
        """Return what starts a command; connect to the cluster where that is asked for."""
        if self.engine == "local":
            from reverie.sweeps.processes import LocalProcess

            return LocalProcess
        from reverie.scaling.cluster import connect, has_place
        from reverie.sweeps.ray_process import RayProcess

        cpus, gpus = plan.resources.get("cpus", 1.0), plan.resources.get("gpus", 0.0)
        connect(self.address, cpus)
        if not has_place(cpus, gpus):
            say(f"No machine of the cluster has {cpus:g} CPUs and {gpus:g} GPUs. Runs wait until one joins.")
        return partial(RayProcess, cpus=cpus, gpus=gpus)

    def given(self) -> list[str]:
        """Return the options that were given, for the command that continues."""
        defaults = {entry.name: entry.default for entry in fields(Scheduled) if entry.name != "out"}
        chosen = {name: getattr(self, name) for name, value in defaults.items() if getattr(self, name) != value}
        return [word for name, value in chosen.items() for word in (f"--{name}", str(value))]


@dataclass(frozen=True, kw_only=True)
class Grid(Scheduled):
    """Options of a command that trains the runs of a grid, in DIR/ENV/AGENT/seed-N."""

    dry_run: bool = False
    """Only print the grid, its progress, and an estimate of the remaining time."""

    def train(self, plan: "Plan", runs: "Sequence[PlannedRun]", folder: Path) -> None:
        """Train the runs of a plan in a folder, or only print their progress.

        Raises:
            RunError: if a run has failed, after all others.
            Interrupted: if it was stopped.
        """
        from reverie.sweeps.executor import execute, survey, sweep_folder
        from reverie.sweeps.status import State, status_table
        from reverie.training.stop_signal import Interrupted

        out = console()
        sweep = survey(plan, runs, folder)
        if same := ", ".join(dict.fromkeys(f"{run.env} {run.agent}" for run in runs if run.duplicate_of)):
            say(f"Not run, since it would be the same agent as another run: {same}.")
        try:
            if self.dry_run:
                out.print(status_table(sweep.runs, sweep.summary()))
                return
            with sweep_folder(plan, runs, folder):
                process = self.process(plan)
                if self.engine == "ray" and not self.workers:
                    sweep.workers = len(sweep.runs)  # the cluster decides how many have a place
                execute(sweep, out, process=process, keep_replay=plan.keep_replay)
        except Interrupted as stopped:
            own = next((run.env for run in runs if ":" in run.env), "")
            again = command_line("sweep", folder, *self.given(), env=own)
            raise Interrupted(f"Stopped; continue with `{again}`.", stopped.signal) from None
        if failed := sweep.of(State.FAILED):
            what = f"{len(failed)} of {len(runs)} runs failed, first {failed[0].run.name}: {failed[0].error}"
            raise RunError(f"{what.rstrip('.')}. Each output.log says more. Type the command again to try them again.")


@dataclass(frozen=True)
class Sweep(Grid):
    """Train every run of a grid, environments x variants x varied settings x seeds.

    The same command continues a sweep: finished runs are kept, interrupted ones resume from their checkpoints, failed
    ones are tried again. docs/experiments.md says how a plan is written.
    """

    plan: str
    """A plan (TOML), the folder of a sweep, or one that comes with the package: cpu-all, minatar-quick,
    minatar-decisive or boxing."""

    def __call__(self) -> None:
        from reverie.sweeps.plan import find_plan, read_plan
        from reverie.sweeps.planned_runs import planned_runs

        plan, given = self.with_budget(read_plan(find_plan(self.plan))), Path(self.plan)
        folder = self.out or (given if given.is_dir() else Path("runs", plan.name))
        self.train(plan, planned_runs(plan), folder)

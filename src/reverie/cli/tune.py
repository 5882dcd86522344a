"""`reverie tune`: search for settings."""

from dataclasses import dataclass
from pathlib import Path

from reverie.cli.console import console, require, say
from reverie.cli.sweep import Scheduled
from reverie.shell import command_line


@dataclass(frozen=True)
class Tune(Scheduled):
    """Search for the settings with which an agent scores most, by Optuna.

    The plan is that of a sweep, of one environment, with the settings to search under [space] and what counts under
    [objective]; docs/experiments.md says how they are written. The same command continues a search. The best
    configuration is in best.toml of its folder, for reverie train --config.
    """

    plan: str
    """A plan (TOML) with [space]."""
    trials: int = 50
    """Number of trials in all, those of earlier calls included."""

    def __call__(self) -> None:
        require(self.trials > 0, f"--trials is {self.trials}, but it must be at least 1.")
        from dataclasses import replace

        from reverie.sweeps.search import BEST, Searcher
        from reverie.sweeps.search_plan import read_search
        from reverie.training.stop_signal import Interrupted

        search = read_search(Path(self.plan))
        search = replace(search, plan=self.with_budget(search.plan))
        if self.engine == "ray" and not self.workers:  # the cluster decides how many have a place
            search = replace(search, plan=replace(search.plan, workers=self.trials))
        folder = self.out or Path("runs", f"tune-{search.plan.name}")
        try:
            study = Searcher(search, folder, console(), process=self.process(search.plan)).run(self.trials)
        except Interrupted as stopped:
            own = search.plan.tasks[0].env
            words = ["--trials", self.trials, "--out", folder, *self.given()]
            again = command_line("tune", self.plan, *words, env=own if ":" in own else "")
            raise Interrupted(f"Stopped; continue with `{again}`.", stopped.signal) from None
        env = search.plan.tasks[0].env
        say(f"Best: trial {study.best_trial.number}, {search.metric} {study.best_value:.4g}.")
        say(f"Train with it: {command_line('train', env, '--config', folder / BEST, env=env)}")

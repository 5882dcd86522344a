"""Search for settings with Optuna: trials are runs of a plan whose settings it suggests.

Optuna chooses values and says which trials to stop early; runs are child processes as in a sweep. All of it is in the
folder, so that typing the command again continues: trials that were running resume from their checkpoints.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from reverie.config import to_toml
from reverie.errors import ConfigError, ReverieError, RunError
from reverie.runs.atomic_io import atomic_write, remove, to_json
from reverie.specs import EnvSpec
from reverie.sweeps.executor import locked_folder
from reverie.sweeps.planned_runs import PlannedRun, planned_runs, spec_by_name
from reverie.sweeps.processes import STOPPING, LocalProcess, Process, RunningRun, reverie_command, stop
from reverie.sweeps.search_plan import Search, corners
from reverie.sweeps.status import RunStatus, State
from reverie.training.numbers import format_number
from reverie.training.stop_signal import Interrupted, StopSignal

try:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import Trial, TrialState
except ModuleNotFoundError as error:
    raise ConfigError(
        "Optuna is not installed. Nothing was started. Install it with pip install 'reverie[tune]'."
    ) from error

FAIL = TrialState.FAIL
JOURNAL, SEARCH, BEST = "trials.journal", "search.json", "best.toml"
"""In the folder: Optuna's trials, the search as it was begun, and the configuration of the best trial."""


def suggest(trial: Trial, space: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a trial by path."""
    values: dict[str, Any] = {}
    for path, given in space.items():
        if isinstance(given, list):
            values[path] = trial.suggest_categorical(path, given)
        elif all(isinstance(given[end], int) for end in ("low", "high")):
            values[path] = trial.suggest_int(path, given["low"], given["high"], log=given.get("log", False))
        else:
            values[path] = trial.suggest_float(path, given["low"], given["high"], log=given.get("log", False))
    return values


class RunningTrial:
    """A trial whose runs, one for each seed, are trained one after the other."""

    def __init__(self, trial: Trial, runs: list[PlannedRun], folder: Path, metric: str) -> None:
        self.trial, self.folder = trial, folder / f"trial-{trial.number:03d}"
        self.statuses = [RunStatus(run, self.folder) for run in runs]
        self.running: RunningRun | None = None
        self._metric = metric
        self._reported = max(trial.study.trials[trial.number].intermediate_values, default=-1)

    @property
    def current(self) -> RunStatus | None:
        """The first run that is not done; None if all are."""
        return next((status for status in self.statuses if status.state is not State.DONE), None)

    def report(self) -> bool:
        """Report new values of the first seed, and return whether the trial is worse than the median of the others."""
        first = self.statuses[0]
        first.read_metrics()
        value = first.latest.get(self._metric)
        if self.running is None or value is None or self.current is not first or first.step <= self._reported:
            return False
        self._reported = first.step
        self.trial.report(float(value), first.step)
        return bool(self.trial.should_prune())

    def value(self) -> float:
        """Return the mean over seeds of the metric's last values; NaN where one has none."""
        return fmean(float(status.latest.get(self._metric, math.nan)) for status in self.statuses)


class Searcher:
    """Runs the trials of a search in a folder.

    Args:
        search: what is searched.
        folder: of the trials; the best configuration is kept there.
        console: shows a line when a trial begins or ends.
        spec_of: returns the spec of an environment.
        command: returns the command that starts or continues a run.
        process: starts a command whose output goes to a file.
        poll: seconds between two looks at the processes.
    """

    def __init__(
        self,
        search: Search,
        folder: Path,
        console: Console,
        *,
        spec_of: Callable[[Any], EnvSpec] = spec_by_name,
        command: Callable[[PlannedRun, Path], list[str]] = reverie_command,
        process: Callable[[list[str], Path], Process] = LocalProcess,
        poll: float = 0.5,
    ) -> None:
        self._search, self._folder, self._console = search, folder, console
        self._spec_of, self._command, self._process, self._poll = spec_of, command, process, poll
        self._trials: list[RunningTrial] = []

    def run(self, trials: int) -> optuna.Study:
        """Run trials until so many have ended, those of earlier calls included.

        Raises:
            ConfigError: if no agent can have some values of the space, or a trial has no metric of that name.
            RunError: if the folder is in use or holds another search, or no trial has succeeded.
            Interrupted: on Ctrl-C, SIGTERM or SIGHUP, after all runs have ended with a checkpoint.
        """
        for values in corners(self._search.space):
            self._planned(values)
        with locked_folder(self._folder):
            self._check_same()
            study = self._open_study()
            # Those that failed are not counted: typing the command again tries others in their place.
            left = trials - len(study.get_trials(states=[state for state in TrialState if state is not FAIL]))
            interrupted = [Trial(study, each._trial_id) for each in study.get_trials(states=[TrialState.RUNNING])]
            with StopSignal(lambda: self._say(STOPPING)) as stopping:
                try:
                    while not stopping.requested:
                        self._trials = [each for each in self._trials if self._advance(each)]
                        while len(self._trials) < self._search.plan.workers and (interrupted or left > 0):
                            left -= not interrupted
                            self._begin(interrupted.pop(0) if interrupted else study.ask())
                        if not self._trials:
                            break
                        time.sleep(self._poll)
                    stop(self._running)
                finally:
                    for running in self._running:
                        running.kill()
            if stopping.requested:
                raise Interrupted("", stopping.signal)
        if not study.get_trials(states=(TrialState.COMPLETE,)):
            raise RunError(
                f"None of the {len(study.trials)} trials has succeeded. Each output.log in {self._folder} says why."
            )
        return study

    @property
    def _running(self) -> list[RunningRun]:
        return [each.running for each in self._trials if each.running is not None]

    def _say(self, message: str) -> None:
        self._console.print(message, markup=False, soft_wrap=True)

    def _check_same(self) -> None:
        """Save the search in its folder; raise RunError if the folder holds another one."""
        path, wanted = self._folder / SEARCH, to_json(self._search.to_json())
        if path.exists() and json.loads(path.read_bytes()) != json.loads(wanted):
            source = self._search.plan.source
            raise RunError(f"{self._folder} holds another search than {source}. Choose another folder with --out.")
        atomic_write(path, wanted)

    def _open_study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self._folder / JOURNAL))),
            study_name=self._search.plan.name,
            direction=self._search.direction,
            pruner=optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )
        # Another seed each time: the same one would suggest again what it suggested first.
        is_parallel = self._search.plan.workers > 1
        study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), constant_liar=is_parallel)
        return study

    def _planned(self, values: Mapping[str, Any]) -> list[PlannedRun]:
        plan = self._search.plan
        return planned_runs(replace(plan, settings={**plan.settings, **values}), self._spec_of)

    def _begin(self, trial: Trial) -> None:
        values = suggest(trial, self._search.space)
        shown = ", ".join(f"{path}={format_number(v) if isinstance(v, float) else v}" for path, v in values.items())
        self._say(f"trial {trial.number}: {shown}")
        self._trials.append(RunningTrial(trial, self._planned(values), self._folder, self._search.metric))

    def _advance(self, each: RunningTrial) -> bool:
        """Begin or end a run of a trial, and return whether the trial continues."""
        if each.report():
            assert each.running is not None
            each.running.kill()
            self._end(each, None, "stopped early: below the median of the others at this step", TrialState.PRUNED)
            return False
        try:
            if (running := each.running) is not None:
                if not running.has_ended():
                    return True
                each.running = None
                if running.result() is not State.DONE:
                    name = f"trial {each.trial.number}"
                    self._say(
                        f"{name} has lost its machine at step {running.status.step:,} and continues on another one"
                    )
            if (status := each.current) is not None:
                status.read()
                if status.state is State.WAITING:
                    each.running = RunningRun(status, self._command(status.run, each.folder), self._process)
                return True
        except (OSError, ReverieError) as error:
            self._end(each, None, f"failed: {getattr(error, 'strerror', None) or error}")
            return False
        metric, value = self._search.metric, each.value()
        if math.isnan(value):
            self._end(each, None, f"failed: its metrics have no {metric}")
            raise ConfigError(
                f"In {self._search.plan.source}: objective.metric is {metric}, but no such metric is in "
                f"{each.statuses[0].folder.metrics}. The search ends. Choose one of that file, and another --out."
            )
        self._end(each, value, f"is done: {metric} {format_number(value)}")
        return False

    def _end(self, each: RunningTrial, value: float | None, how: str, state: TrialState = FAIL) -> None:
        trial, study = each.trial, each.trial.study
        study.tell(trial, value, None if value is not None else state)
        self._say(f"trial {trial.number} {how}")
        if not self._search.plan.keep_replay:
            for status in each.statuses:
                with suppress(OSError):
                    remove(status.folder.replay)
        if value is not None and study.best_trial.number == trial.number:
            (best, *_) = self._planned(study.best_trial.params)
            atomic_write(self._folder / BEST, to_toml(best.config).encode())

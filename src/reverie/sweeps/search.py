"""Search for settings with Optuna: trials are runs of a plan whose settings it suggests.

Optuna chooses values and says which trials to stop early; runs are child processes as in a sweep. All of it is in the
folder, so that typing the command again continues: trials that were running resume from their checkpoints.
"""

import json
import math
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from reverie.config import to_toml
from reverie.errors import ConfigError, RunError
from reverie.replay import REPLAY
from reverie.runs.atomic_io import atomic_write, remove, to_json
from reverie.specs import EnvSpec
from reverie.sweeps.executor import LOG, PATIENCE, LocalProcess, Process, failure, locked_folder, reverie_command
from reverie.sweeps.planned_runs import PlannedRun, planned_runs, spec_by_name
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

STOPPING = "Stopping, each run with a checkpoint. Press Ctrl-C again to stop at once."
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
        self.process: Process | None = None
        self.began_at = 0
        """Step of the checkpoint from which the process began."""
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
        if self.process is None or value is None or self.current is not first or first.step <= self._reported:
            return False
        self._reported = first.step
        self.trial.report(float(value), first.step)
        return bool(self.trial.should_prune())

    def value(self) -> float:
        """Return the mean over seeds of the metric's last values; NaN where one has none."""
        return fmean(float(status.latest.get(self._metric, math.nan)) for status in self.statuses)


def search_settings(
    search: Search,
    folder: Path,
    trials: int,
    console: Console,
    *,
    spec_of: Callable[[Any], EnvSpec] = spec_by_name,
    command: Callable[[PlannedRun, Path], list[str]] = reverie_command,
    process: Callable[[list[str], Path], Process] = LocalProcess,
    poll: float = 0.5,
) -> optuna.Study:
    """Run trials until `trials` of them have ended, `plan.workers` at a time, and keep the best configuration.

    Raises:
        RunError: if the folder is in use or holds another search, or no trial has succeeded.
        Interrupted: on Ctrl-C, SIGTERM or SIGHUP, after all runs have ended with a checkpoint.
    """

    def say(message: str) -> None:
        console.print(message, markup=False, soft_wrap=True)

    def planned(values: Mapping[str, Any]) -> list[PlannedRun]:
        return planned_runs(replace(search.plan, settings={**search.plan.settings, **values}), spec_of)

    def begin(trial: Trial) -> None:
        values = suggest(trial, search.space)
        shown = ", ".join(f"{path}={format_number(v) if isinstance(v, float) else v}" for path, v in values.items())
        say(f"trial {trial.number}: {shown}")
        running.append(RunningTrial(trial, planned(values), folder, search.metric))

    def end(trial: Trial, value: float | None, how: str, state: TrialState = FAIL) -> None:
        study.tell(trial, value, None if value is not None else state)
        say(f"trial {trial.number} {how}")
        if not search.plan.keep_replay:
            for replay in (folder / f"trial-{trial.number:03d}").rglob(REPLAY):
                with suppress(OSError):
                    remove(replay)
        if value is not None and study.best_trial.number == trial.number:
            (best, *_) = planned(study.best_trial.params)
            atomic_write(folder / BEST, to_toml(best.config).encode())

    def advance(each: RunningTrial) -> bool:
        """Begin or end a run of a trial, and return whether the trial continues."""
        if each.report():
            assert each.process is not None
            with each.process:
                each.process.kill()
            end(each.trial, None, "stopped early: below the median of the others at this step", TrialState.PRUNED)
            return False
        if each.process is not None:
            if each.process.poll() is None:
                return True
            with each.process as ended:
                each.process = None
            status = each.current
            assert status is not None
            status.read()
            is_lost = getattr(ended, "is_lost", False) and status.saved_step > each.began_at
            if status.state is not State.DONE and is_lost:
                say(f"trial {each.trial.number} has lost its machine at step {status.step:,} and continues on another")
            elif status.state is not State.DONE:
                end(each.trial, None, f"failed: {failure(status.folder.path / LOG, ended.returncode)}")
                return False
        if (status := each.current) is not None:
            status.read()
            if status.state is State.WAITING:
                words = command(status.run, each.folder)
                status.folder.path.mkdir(parents=True, exist_ok=True)
                with (status.folder.path / LOG).open("a") as log:
                    log.write(f"$ {shlex.join(words)}\n")
                each.process, each.began_at = process(words, status.folder.path / LOG), status.saved_step
            return True
        value = each.value()
        if math.isnan(value):
            end(each.trial, None, f"failed: its metrics have no {search.metric}")
            raise ConfigError(
                f"In {search.plan.source}: objective.metric is {search.metric}, but no such metric is in "
                f"{each.statuses[0].folder.metrics}. The search ends. Choose one of that file, and another --out."
            )
        end(each.trial, value, f"is done: {search.metric} {format_number(value)}")
        return False

    for values in corners(search.space):  # a mistake is named before anything runs
        planned(values)
    running: list[RunningTrial] = []
    with locked_folder(folder):
        _check_same(search, folder)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
            study_name=search.plan.name,
            direction=search.direction,
            pruner=optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )
        # Another seed each time: the same one would suggest again what it suggested first.
        study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), constant_liar=search.plan.workers > 1)
        with StopSignal(
            lambda: say("Stopping, each run with a checkpoint. Press Ctrl-C again to stop at once.")
        ) as stop:
            try:
                # Those that failed are not counted: typing the command again tries others in their place.
                left = trials - len(study.get_trials(states=[state for state in TrialState if state is not FAIL]))
                interrupted = [Trial(study, each._trial_id) for each in study.get_trials(states=[TrialState.RUNNING])]
                while not stop.requested:
                    running = [each for each in running if advance(each)]
                    while len(running) < search.plan.workers and (interrupted or left > 0):
                        left -= not interrupted
                        begin(interrupted.pop(0) if interrupted else study.ask())
                    if not running:
                        break
                    time.sleep(poll)
                processes = [each.process for each in running if each.process is not None]
                for child in processes:
                    child.terminate()
                deadline = time.monotonic() + PATIENCE
                for child in processes:
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(max(deadline - time.monotonic(), 0))
            finally:
                for each in running:
                    if each.process is not None:
                        with each.process:
                            each.process.kill()
        if stop.requested:
            raise Interrupted("", stop.signal)
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        raise RunError(f"None of the {len(study.trials)} trials has succeeded. Each output.log in {folder} says why.")
    return study


def _check_same(search: Search, folder: Path) -> None:
    """Save the search in its folder; raise RunError if the folder holds another one."""
    path, wanted = folder / SEARCH, to_json(search.to_json())
    if path.exists() and json.loads(path.read_bytes()) != json.loads(wanted):
        raise RunError(f"{folder} holds another search than {search.plan.source}. Choose another folder with --out.")
    atomic_write(path, wanted)

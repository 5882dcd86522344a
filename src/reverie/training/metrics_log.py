"""Rows of metrics: averages of training and evaluations, written to `metrics.jsonl` and to loggers.

docs/quickstart.md, "Metrics", explains each name.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import override

from reverie.collectors.collector import Episode
from reverie.runs.metrics import MetricsFile
from reverie.training.callbacks import Callback, EvaluationResult
from reverie.training.counters import Counters
from reverie.training.every import Every, is_due_between_steps
from reverie.training.loggers import Loggers
from reverie.training.metrics import Metrics
from reverie.training.nonfinite import Diverged, NonFiniteGuard
from reverie.training.stop_signal import StopSignal


@dataclass(eq=False)
class MetricsLog(Callback):
    """Writes a row of metrics every `training.log_every` steps, after each evaluation, and at the end of the run."""

    every: Every
    metrics: Metrics
    file: MetricsFile
    loggers: Loggers
    guard: NonFiniteGuard
    on_row: Callable[[Mapping[str, float]], None]
    """Called with the scalars of each row."""
    stop: StopSignal
    """Once it is requested, the row of a step is left to the resumed run, which may have to evaluate first."""

    @override
    def on_episode(self, episode: Episode) -> None:
        info = {f"episode/info/{name}": value for name, value in numeric_entries(episode.info)}
        self.metrics.add({"episode/return": episode.return_, "episode/length": episode.length, **info})

    @override
    def on_step(self, counters: Counters, transitions: object) -> None:
        """Write a row if it is due; the last one is left to the end of the run."""
        is_last = counters.steps >= self.run.config.training.steps
        is_left = counters.is_pretrained and self.stop.requested
        if not (is_last or is_left) and self._is_due(counters):
            self._write()

    @override
    def on_update(self, counters: Counters, metrics: object) -> None:
        settings = self.run.config.training
        if is_due_between_steps(counters, settings, settings.log_every):
            self._write(is_between_steps=True)

    @override
    def on_evaluation(self, result: EvaluationResult) -> None:
        """Write the evaluation into a row of its step, with averages where these are due."""
        is_due = self._is_due(self.run.counters) or (result.is_final and not self._has_averages)
        self._write(result, has_averages=is_due)

    @override
    def on_end(self) -> None:
        if not self._has_averages:
            self._write()

    @property
    def _has_averages(self) -> bool:
        """True if there is a row with averages at this step, as after a `Stop` or in a run resumed at its end."""
        return self.run.counters.averages_at == self.run.counters.steps

    def _is_due(self, counters: Counters) -> bool:
        return bool(self.every(counters.steps)) or counters.is_row_due

    def _write(
        self, evaluation: EvaluationResult | None = None, has_averages: bool = True, is_between_steps: bool = False
    ) -> None:
        counters = self.run.counters
        scalars: dict[str, float] = {}
        lists: dict[str, list[float]] = {}
        if has_averages:
            self.guard.flush()
            scalars = self.metrics.mean()
            counts = {"env/restarts": counters.restarts, "train/nonfinite_updates": counters.nonfinite_updates}
            scalars |= {name: float(count) for name, count in counts.items() if count}
        broken = [name for name, value in scalars.items() if not math.isfinite(value)]
        if evaluation:
            lists["eval/returns"] = list(evaluation.returns)
            lists["eval/lengths"] = [float(episode.length) for episode in evaluation.episodes]
            scalars |= {name.removesuffix("s"): float(np.mean(values)) for name, values in lists.items()}
        counters.tick()
        row = {"step": counters.steps, "frames": counters.frames, "time": round(counters.seconds, 3)}
        self.file.append({**row, "updates": counters.updates, **scalars, **lists})
        counters.rows, counters.rows_sha256 = self.file.num_rows, self.file.sha256
        if is_between_steps:  # Steps do not advance: such rows have an axis of updates, and names of their own.
            self.loggers.scalars(counters.updates, {f"pretraining/{name}": v for name, v in scalars.items()})
        else:
            self.loggers.scalars(counters.steps, scalars)
        if has_averages:
            self.metrics.reset()
            counters.is_row_due = False
            if not is_between_steps:
                counters.averages_at = counters.steps
        self.on_row(scalars)
        if broken:
            raise Diverged(
                f"{broken[0]} is not finite at step {counters.steps}. Lower the learning rates, or continue from an "
                f"earlier checkpoint in {self.run.path / 'checkpoints'}."
            )


def numeric_entries(info: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of an `info`, nested dictionaries joined by slashes."""
    for key, value in info.items():
        if isinstance(value, Mapping):
            yield from numeric_entries(value, f"{prefix}{key}/")
        elif isinstance(value, int | float | np.number | np.bool_ | np.ndarray) and np.ndim(value) == 0:
            number = np.asarray(value)
            if number.dtype.kind in "biuf" and np.isfinite(number):
                yield f"{prefix}{key}", float(number)

"""Averages of metrics, and the time of each phase, between two rows."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Phase(NamedTuple):
    """Current activity of a run."""

    name: str
    since: float
    """Seconds of the metrics' clock at which it began, or last showed progress."""


class Metrics:
    """Averages of scalars, rates and phase times since the last reset.

    Nothing here waits for a GPU before `mean`: tensors are added up on their own device. They are also
    copied at once, so a metric may live in memory that the next step overwrites (CUDA graphs do that).
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._phases: list[str] = []
        self._last = clock()
        self.phase = Phase("start", self._last)
        """Latest phase, also after its end; read by the watchdog's thread."""
        self.reset()

    def reset(self) -> None:
        """Start new averages. Phases that are running continue."""
        self._charge()
        self._sums: dict[str, tuple[float, int]] = {}
        self._tensor_sums: dict[tuple[str, ...], Tensor] = {}
        """By names: the sum of each, and last how many were added."""
        self._amounts: dict[str, float] = defaultdict(float)
        self._seconds: dict[str, float] = defaultdict(float)
        self._start = self._last

    def add(self, values: Mapping[str, float | Tensor], unless: Tensor | None = None) -> None:
        """Add numbers, or tensors of one element and one device; these are left out where `unless` is not 0."""
        tensors: dict[str, Tensor] = {}
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[name] = value.detach().reshape(()).float()
            else:
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + float(value), count + 1)
        if not tensors:
            return
        # One stacked vector for all of them: a few small kernels per call instead of one per metric.
        device = next(iter(tensors.values())).device
        vector = torch.stack([*tensors.values(), torch.ones((), device=device)])
        if unless is not None:
            vector = torch.where(unless == 0, vector, 0.0)
        key = tuple(tensors)
        if key in self._tensor_sums:
            self._tensor_sums[key] += vector
        else:
            self._tensor_sums[key] = vector.double()

    def count(self, name: str, amount: float = 1) -> None:
        """Count things that happen; `count("updates")` becomes `perf/updates_per_second`, and "frames" `perf/fps`."""
        self._amounts[name] += amount

    @contextmanager
    def timer(self, name: str) -> Iterator[None]:
        """Charge the time inside to a phase, and not to the phase around it.

        This is the host's time: work that was only queued on a GPU is charged to the phase that waits for it.
        """
        self._charge()
        self._phases.append(name)
        self.phase = Phase(name, self._last)
        try:
            yield
        finally:
            self._charge()
            self._phases.pop()
            self.show_progress()

    def show_progress(self) -> None:
        """Let the running phase begin now for the watchdog."""
        self.phase = Phase(self._phases[-1] if self._phases else self.phase.name, self.clock())

    def spend(self, name: str, seconds: float) -> None:
        """Charge a phase with time that was measured elsewhere, for example in another thread."""
        self._seconds[name] += seconds

    def _charge(self) -> None:
        now = self.clock()
        if self._phases:
            self.spend(self._phases[-1], now - self._last)
        self._last = now

    def mean(self) -> dict[str, float]:
        """Return averages, rates and times since the last reset. Waits for a GPU.

        A metric of which every observation was left out is missing.
        """
        self._charge()
        sums = dict(self._sums)
        for names, values, added in self._read_tensors():
            for name, value in zip(names, values, strict=True):
                total, count = sums.get(name, (0.0, 0))
                sums[name] = (total + value, count + added)
        result = {name: total / count for name, (total, count) in sums.items() if count}
        elapsed = self._last - self._start
        if elapsed > 0:
            for name, amount in self._amounts.items():
                result["perf/fps" if name == "frames" else f"perf/{name}_per_second"] = amount / elapsed
        for name, seconds in self._seconds.items():
            result[f"time/{name}"] = seconds
            result[f"time/{name}_share"] = seconds / elapsed if elapsed > 0 else 0.0
        return result

    def _read_tensors(self) -> Iterator[tuple[list[str], list[float], int]]:
        for names, vector in self._tensor_sums.items():
            *sums, count = vector.tolist()
            yield list(names), sums, int(count)

    def state(self) -> dict[str, Any]:
        """Return the sums since the last reset, in JSON's types."""
        self._charge()
        return {
            "sums": {name: list(entry) for name, entry in self._sums.items()},
            "tensor_sums": [list(entry) for entry in self._read_tensors()],
            "amounts": dict(self._amounts),
            "seconds": dict(self._seconds),
            "elapsed": self._last - self._start,
        }

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore what `state` returned; tensors are added up on `device`."""
        self.reset()
        self._start -= state["elapsed"]
        self._sums = {name: (total, count) for name, (total, count) in state["sums"].items()}
        for names, sums, count in state["tensor_sums"]:
            self._tensor_sums[tuple(names)] = torch.tensor([*sums, count], dtype=torch.float64, device=device)
        self._amounts.update(state["amounts"])
        self._seconds.update(state["seconds"])

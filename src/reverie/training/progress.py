"""Progress of a run, in numbers and in short text."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from reverie.runs.metrics import observation_losses

BLOCKS = "▁▂▃▄▅▆▇█"
RECENT_EPISODES = 10
RATE_WINDOW = 300.0
"""Seconds that the estimate of the remaining time looks back on."""
SAMPLE_EVERY = 1.0
"""Seconds between the samples that it is made from."""
UNTIMED = {"starting", "prefill", "pretraining"}
"""Phases whose pace says nothing about the time that is left."""


def format_number(value: float) -> str:
    """Four significant digits or one decimal, whichever is more; an exponent only for the very large and small.

    An image loss moves in its first decimal long after its constant part, some thousands, stands still.
    """
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-4:
        return f"{value:.2e}"
    decimals = 4 if size < 0.1 else 3 if size < 10 else 1
    return f"{value:,.{decimals}f}"


def format_score(value: float) -> str:
    """One decimal, which is what scores are reported with, and three where a score is small."""
    if math.isfinite(value) and 0 < abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:,.1f}"


def format_rate(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def format_duration(seconds: float | None) -> str:
    """`4:07`, `3:04:07`, or `2d 03:04`; `--:--` if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "--:--"
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days}d {hours_left:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_count(value: int) -> str:
    """`4.2M`, `22.2M`, `512k`."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            text = f"{value / size:.1f}" if value < 100 * size else f"{value / size:.0f}"
            return text.removesuffix(".0") + unit
    return str(value)


def short_name(metric: str) -> str:
    """`model/image_loss` is `image`."""
    return metric.split("/", 1)[-1].removesuffix("_loss").replace("_", " ")


def sparkline(values: Sequence[float], width: int) -> str:
    """A line of block characters, as high as the values between their least and greatest.

    Args:
        values: oldest first; what is not finite is left out. More values than columns are averaged in groups.
        width: columns at most.
    """
    finite = [value for value in values if math.isfinite(value)]
    columns = min(width, len(finite))
    if columns < 1:
        return ""
    borders = [index * len(finite) // columns for index in range(columns + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(borders)]
    low, high = min(means), max(means)
    if high <= low:
        return BLOCKS[3] * columns
    return "".join(BLOCKS[min(int((mean - low) / (high - low) * len(BLOCKS)), len(BLOCKS) - 1)] for mean in means)


class History:
    """All values of a run in bounded space: when full, neighbours are averaged and each entry stands for more."""

    def __init__(self, capacity: int = 512) -> None:
        self._capacity = capacity
        self._stride = 1
        self._pending: list[float] = []
        self.values: list[float] = []

    def add(self, value: float) -> None:
        """Append a value; one that is not finite is left out."""
        if not math.isfinite(value):
            return
        self._pending.append(value)
        if len(self._pending) < self._stride:
            return
        self.values.append(sum(self._pending) / len(self._pending))
        self._pending.clear()
        if len(self.values) >= self._capacity:
            pairs = zip(self.values[::2], self.values[1::2], strict=True)
            self.values = [(a + b) / 2 for a, b in pairs]
            self._stride *= 2


class Progress:
    """Numbers that the display shows: steps, pace, metrics, latest scores."""

    def __init__(
        self, total_steps: int, frames_per_step: int, step: int, clock: Callable[[], float], elapsed: float
    ) -> None:
        self.total_steps = max(total_steps, 1)
        self.frames_per_step = frames_per_step
        self.step = step
        self.phase = "starting"
        self.detail = ""
        self.metrics: dict[str, float] = {}
        self.episodes = 0
        self.recent: deque[tuple[float, int]] = deque(maxlen=RECENT_EPISODES)
        self.returns = History()
        self.losses = History()
        self.evaluations: list[float] = []
        self._clock = clock
        self._start = clock() - elapsed
        self._samples: deque[tuple[float, int]] = deque([(clock(), step)])

    def update(self, step: int, phase: str, metrics: Mapping[str, float] | None, detail: str = "") -> None:
        """Set the progress; metrics that are not given keep their last value."""
        has_no_pace = bool(self._samples) and self._samples[0][1] == self.step
        if phase != self.phase and ({phase, self.phase} & UNTIMED or has_no_pace):
            # Such as an evaluation before the first step of training.
            self._samples.clear()
        self.step, self.phase, self.detail = step, phase, detail
        if metrics:
            self.metrics.update(metrics)
            for name in observation_losses(metrics)[:1]:
                self.losses.add(metrics[name])
        now = self._clock()
        if len(self._samples) > 1 and now - self._samples[-2][0] < SAMPLE_EVERY:
            # The last sample is always the latest; the others are about so far apart.
            self._samples.pop()
        self._samples.append((now, step))
        while len(self._samples) > 2 and now - self._samples[1][0] > RATE_WINDOW:
            self._samples.popleft()

    @property
    def fraction(self) -> float:
        """Fraction of the run that is done, 0 to 1."""
        return min(self.step / self.total_steps, 1.0)

    @property
    def frames(self) -> int:
        """Environment frames so far."""
        return self.step * self.frames_per_step

    @property
    def elapsed(self) -> float:
        """Wall seconds of the run so far, over all its parts."""
        return self._clock() - self._start

    @property
    def frames_per_second(self) -> float | None:
        """Environment frames per second over the last minutes, evaluations included; None before there is a pace."""
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return self.frames_per_step * (last - first) / (end - start) if end > start and last > first else None

    @property
    def eta(self) -> float | None:
        """Seconds left at the pace of the last minutes; None before there is one."""
        rate = self.frames_per_second
        if rate is None or self.phase in UNTIMED:
            return None
        # Between two updates the clock goes on, so that the number falls evenly.
        since = self._clock() - self._samples[-1][0]
        return max((self.total_steps - self.step) * self.frames_per_step / rate - since, 0.0)

    @property
    def mean_return(self) -> float | None:
        """Of the last ten training episodes."""
        return sum(score for score, _ in self.recent) / len(self.recent) if self.recent else None

    @property
    def mean_length(self) -> float | None:
        """Agent steps of the last ten training episodes."""
        return sum(length for _, length in self.recent) / len(self.recent) if self.recent else None

"""What a run measures: averages between two rows, and the files they are written to.

Names are grouped by their first part, which is also TensorBoard's grouping:

- `model/…`: losses, KL, entropies and gradient norm of the world model, for example `model/image_loss`
- `actor/…`, `critic/…`: losses, gradient norms, entropy, values
- `imagination/…`: rewards, returns and discounts of the rollouts
- `train/…`: `return` and `length` of episodes, averaged
- `eval/…`: `return` and `length` of an evaluation's episodes, averaged, and `returns` and `lengths` of each. They are
  in the row of the step at which it was made, which has no averages of training unless these were due
- `train/nonfinite_updates`: updates so far in which an optimizer did not step, because a loss or its gradients were not
  finite; absent while there are none, and such updates are in no average
- `env/faults`: failures of environments so far; absent while there are none
- `speed/…`: `frames_per_second`, `updates_per_second`, and `threads`, the learner's number of CPU threads
- `time/…`: seconds in each phase since the last row, and `…_share`, the same as a part of all that time. With
  overlapped collection `time/collect` passes beside the others, and `time/wait` is what the learner waited for it.
"""

import io
import math
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from reverie.errors import RunError
from reverie.runs.layout import RunPaths
from reverie.runs.metrics import COUNTERS
from reverie.runs.metrics_file import MetricsFile


class Metrics:
    """Averages of scalars, rates and phase times since the last flush.

    Nothing here waits for a GPU before `mean` or `flush`: tensors are added up on their own device. They are also
    copied at once, so a metric may live in memory that the next step overwrites (CUDA graphs do that).

    Args:
        clock: seconds, rising.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._phases: list[str] = []
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        self._tensor_sums: dict[tuple[tuple[str, ...], torch.device], Tensor] = {}
        """By names and device: the sum of each, and last how many were added."""
        self._amounts: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._start = self._last = self._clock()

    def add(self, values: Mapping[str, float | Tensor], unless: Tensor | None = None) -> None:
        """Add one observation of each metric.

        Args:
            values: numbers or tensors of one element, by name.
            unless: on the tensors' device; where it is not 0, the tensors among the values are left out.

        Raises:
            ValueError: if a tensor has more than one element.
        """
        by_device: dict[torch.device, dict[str, Tensor]] = {}
        for name, value in values.items():
            if isinstance(value, Tensor):
                if value.numel() != 1:
                    raise ValueError(f"Metric '{name}' has shape {tuple(value.shape)}, but must be one number.")
                by_device.setdefault(value.device, {})[name] = value.detach().reshape(())
            else:
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + float(value), count + 1)
        for device, tensors in by_device.items():
            self._add_tensors(device, tensors, unless)

    def _add_tensors(self, device: torch.device, tensors: dict[str, Tensor], unless: Tensor | None) -> None:
        # One stacked vector for all of them: a few small kernels per call instead of one per metric.
        one = torch.ones((), device=device)
        vector = torch.stack([*(tensor.float() for tensor in tensors.values()), one])
        if unless is not None:
            vector = torch.where(unless == 0, vector, 0.0)
        key = (tuple(tensors), device)
        if key in self._tensor_sums:
            self._tensor_sums[key] += vector
        else:
            # Apple's GPUs have no float64.
            self._tensor_sums[key] = vector if device.type == "mps" else vector.double()

    def count(self, name: str, amount: float = 1) -> None:
        """Count things that happen; `count("frames", 4)` becomes `speed/frames_per_second`."""
        self._amounts[name] = self._amounts.get(name, 0.0) + amount

    @contextmanager
    def timer(self, name: str) -> Iterator[None]:
        """Charge the time inside to a phase. Within a nested phase the outer one's clock stands still.

        This is the host's time: work that was only queued on a GPU is charged to the phase that waits for it.
        """
        self._charge()
        self._phases.append(name)
        try:
            yield
        finally:
            self._charge()
            self._phases.pop()

    def spend(self, name: str, seconds: float) -> None:
        """Charge a phase with time that was measured elsewhere, for example in another thread."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def _charge(self) -> None:
        now = self._clock()
        if self._phases:
            self.spend(self._phases[-1], now - self._last)
        self._last = now

    def mean(self) -> dict[str, float]:
        """Averages, rates and times since the last flush. This is where a GPU is waited for, once per device.

        A metric of which every observation was left out is not among them.
        """
        self._charge()
        sums = dict(self._sums)
        for (names, _), vector in self._tensor_sums.items():
            *values, count = vector.tolist()
            for name, value in zip(names, values, strict=True):
                total, before = sums.get(name, (0.0, 0))
                sums[name] = (total + value, before + int(count))
        result = {name: total / count for name, (total, count) in sums.items() if count}
        elapsed = self._last - self._start
        if elapsed > 0:
            result |= {f"speed/{name}_per_second": amount / elapsed for name, amount in self._amounts.items()}
        for name, seconds in self._seconds.items():
            result[f"time/{name}"] = seconds
            result[f"time/{name}_share"] = seconds / elapsed if elapsed > 0 else 0.0
        return result

    def reset(self) -> None:
        """Start anew. Phases that are running go on."""
        self._charge()
        self._reset()

    def flush(self) -> dict[str, float]:
        """Same as `mean`, then `reset`."""
        result = self.mean()
        self._reset()
        return result

    def state(self) -> dict[str, Any]:
        """What has been added up since the last flush, as JSON."""
        self._charge()
        tensors = []
        for (names, _), vector in self._tensor_sums.items():
            *sums, count = vector.tolist()
            tensors.append([list(names), sums, int(count)])
        return {
            "sums": {name: list(entry) for name, entry in self._sums.items()},
            "tensor_sums": tensors,
            "amounts": self._amounts,
            "seconds": self._seconds,
            "elapsed": self._last - self._start,
        }

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what `state` returned, perhaps in another process; `device` is where tensors are added up now."""
        self._reset()
        self._start -= state["elapsed"]
        self._sums = {name: (total, count) for name, (total, count) in state["sums"].items()}
        dtype = torch.float32 if device.type == "mps" else torch.float64
        for names, sums, count in state["tensor_sums"]:
            self._tensor_sums[tuple(names), device] = torch.tensor([*sums, count], dtype=dtype, device=device)
        self._amounts = dict(state["amounts"])
        self._seconds = dict(state["seconds"])


def _number(value: float) -> float | None:
    # Seven digits are all that float32 has.
    return float(f"{value:.7g}") if math.isfinite(value) else None


class MetricsWriter:
    """Writes rows to `metrics.jsonl` and to TensorBoard events, in one run folder.

    A row is a JSON object: the four `COUNTERS`, then the scalars. JSON knows neither nan nor inf, so a number that is
    not finite is written as null. TensorBoard's horizontal axis is agent steps.

    Args:
        directory: the run folder; it is created if missing.
        tensorboard: also write TensorBoard events.
    """

    def __init__(self, directory: Path, tensorboard: bool = True) -> None:
        self.directory = Path(directory)
        self.file = MetricsFile(RunPaths(directory).metrics)
        self._tensorboard = tensorboard
        self._is_open = False
        self._board: Any = None

    def open(
        self, resume_at_step: int | None = None, resume_at_update: int | None = None, resume_at_row: int = 0
    ) -> "MetricsWriter":
        """Start writing.

        Args:
            resume_at_step: agent steps of the checkpoint that the run continues from; later rows are dropped, so that
                none is written twice. None starts a new file.
            resume_at_update: updates at that checkpoint; in pretraining they rise while steps do not.
            resume_at_row: rows that were written before it; 0 if that is not known.

        Raises:
            RunError: if a new file would overwrite metrics, or nothing can be written.
        """
        with self._explained():
            self.directory.mkdir(parents=True, exist_ok=True)
            if resume_at_step is None:
                self.file.open()
            else:
                updates = math.inf if resume_at_update is None else resume_at_update
                self.file.open_at(resume_at_row or None, resume_at_step, updates)
            self._is_open = True
            if self._tensorboard:
                # Imported late: TensorBoard's packages take their time, and only a run needs them.
                from reverie.training.events import EventFile

                purge = None if resume_at_step is None else resume_at_step + 1
                self._board = EventFile(RunPaths(self.directory).tensorboard, purge)
        return self

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunError(
                f"Cannot write metrics in {self.directory} ({reason}); make room or give access there, "
                "then go on with --resume."
            ) from error

    def write(
        self,
        step: int,
        frames: int,
        time: float,
        updates: int,
        scalars: Mapping[str, float],
        evaluation: Mapping[str, Sequence[float]] | None = None,
        *,
        between_steps: bool = False,
    ) -> None:
        """Append one row, and hand it to the operating system at once.

        Args:
            step: agent steps so far.
            frames: environment frames so far.
            time: wall seconds of the run so far, over all its parts.
            updates: training steps so far.
            scalars: metrics by name.
            evaluation: `return` and `length` of each episode of an evaluation at this step; `eval/returns` is the list
                and `eval/return` its mean.
            between_steps: whether further updates come before the next step, as in pretraining. TensorBoard shows such
                rows as `pretraining/...` over updates, since they would lie over one another over steps.

        Raises:
            RunError: if it cannot be written, for example on a full disk.
        """
        episodes = evaluation or {}
        scalars = {**scalars, **{f"eval/{name}": float(np.mean(values)) for name, values in episodes.items()}}
        clash = set(scalars) & set(COUNTERS)
        if clash:
            raise ValueError(f"Metrics cannot be named {sorted(clash)}: every row has counters of that name.")
        row = {"step": step, "frames": frames, "time": round(time, 3), "updates": updates}
        numbers = {name: _number(float(value)) for name, value in scalars.items()}
        lists = {f"eval/{name}s": [_number(value) for value in values] for name, values in episodes.items()}
        with self._explained():
            self.file.append({**row, **numbers, **lists})
            if self._board is not None:
                prefix, axis = ("pretraining/", updates) if between_steps else ("", step)
                self._board.scalars({f"{prefix}{name}": float(value) for name, value in scalars.items()}, axis)

    def add_image(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Show a picture in TensorBoard, for example the dream strip.

        Args:
            name: for example `eval/dream`.
            image: uint8 [H, W, 3].
            step: agent steps.
        """
        if self._board is None:
            return
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        with self._explained():
            self._board.picture(name, png.getvalue(), *image.shape[:2], step)

    def add_gif(self, name: str, gif: bytes, step: int) -> None:
        """Show an animation in TensorBoard: the content of a GIF file, for example of the dream that was just saved."""
        if gif[:3] != b"GIF":
            raise ValueError("These bytes are not a GIF file.")
        if self._board is None:
            return
        width, height = struct.unpack("<HH", gif[6:10])
        with self._explained():
            self._board.picture(name, gif, height, width, step)

    def close(self) -> None:
        """Write out what is pending."""
        with self._explained():
            board, self._board, self._is_open = self._board, None, False
            self.file.close()
            if board is not None:
                board.close()

    def __enter__(self) -> "MetricsWriter":
        return self if self._is_open else self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

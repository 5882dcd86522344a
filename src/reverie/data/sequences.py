"""Training sequences of a replay as PyTorch reads data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from reverie.config import ReplayConfig
from reverie.replay import ReplayBuffer


class SequenceDataset(IterableDataset[dict[str, Tensor]]):
    """Endless sequences of a replay, drawn as in training: tensors [T, ...] by key; a DataLoader stacks [B, T, ...].

    `is_first` is set in the first row of each, so that no state is carried into it. The replay is opened for reading by
    each worker, which draws sequences of its own; a second iteration begins again with the same ones.

    Args:
        path: the folder of a run or of imported data, or a `replay.db`.
        length: T, steps of a sequence, at least 2.
        sampling: `episodes`, uniform over the finished ones with more steps than a sequence, or `steps`, uniform over
            all steps and across the borders of episodes.
        seed: of the draws.
    """

    def __init__(
        self, path: Path | str, length: int = 50, sampling: Literal["episodes", "steps"] = "episodes", seed: int = 0
    ) -> None:
        self._path, self._seed = Path(path), seed
        self._config = ReplayConfig(batch_size=1, batch_length=length, capacity=1 << 40, sampling=sampling)
        with ReplayBuffer(self._path, config=self._config) as replay:
            replay.check_sampleable()

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        rng = np.random.default_rng((self._seed, worker.id if worker else 0))
        with ReplayBuffer(self._path, config=self._config) as replay:
            while True:
                yield {key: torch.from_numpy(rows[:, 0].copy()) for key, rows in replay.sample(rng).items()}

"""A replay for looking at: nothing in its folder changes, and the run that writes it may go on."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from reverie.errors import ReplayError
from reverie.replay.index_file import read_index
from reverie.replay.sampling import window_in_streams
from reverie.replay.segments import SegmentStore, disk_errors
from reverie.spaces import ArraySpec, Step

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class ReplayReader:
    """The steps of a replay's last commit. Use it as a context manager; it holds files open.

    The run keeps the data of its last two commits, so there is time to read after opening, though not for hours.

    Args:
        directory: folder of the replay.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.

    Raises:
        ReplayError: if there is no replay, or it holds other steps.
    """

    def __init__(self, directory: Path, steps: Mapping[str, ArraySpec]) -> None:
        self.directory = Path(directory)
        self._specs = dict(steps)
        with disk_errors(self.directory):
            stored = read_index(self.directory, self._specs)
        if stored is None:
            raise ReplayError(
                f"There is no replay in {self.directory}; give the folder of a run that still has its own."
            )
        commit = stored.commits[-1]
        self._limits = np.array([(s.first, s.stop) for s in commit.streams], np.int64).reshape(-1, 2)
        log = stored.episodes[max(commit.evicted - stored.first_episode, 0) :]
        self._episodes = log[: max(commit.episodes - max(commit.evicted, stored.first_episode), 0)]
        self._segments = SegmentStore(self.directory, self._specs, stored.segment_steps)

    def __enter__(self) -> "ReplayReader":
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._segments.close()

    @property
    def num_steps(self) -> int:
        """Steps of the last commit."""
        return int((self._limits[:, 1] - self._limits[:, 0]).sum())

    @property
    def num_episodes(self) -> int:
        """Finished episodes of the last commit, short ones included."""
        return len(self._episodes)

    def windows(self, rng: np.random.Generator, length: int, count: int) -> Step:
        """Draw windows of consecutive steps of one stream, all equally likely, across the borders of episodes.

        Args:
            rng: source of the draws.
            length: T, steps of each window.
            count: B, windows.

        Returns:
            Arrays [T, B, …] by key. The first step of each window is marked `is_first`, as in training.

        Raises:
            ReplayError: if no stream is that long, or the data are damaged.
        """
        longest = int((self._limits[:, 1] - self._limits[:, 0]).max(initial=0))
        if longest < length:
            raise ReplayError(
                f"The replay in {self.directory} holds {longest} steps in a row at its last checkpoint, but {length} "
                "are needed; let the run go on, or look at fewer."
            )
        return self._read(*window_in_streams(self._limits[:, 0], self._limits[:, 1], length, count, rng), length)

    def endings(self, rng: np.random.Generator, length: int, count: int) -> Step | None:
        """Windows whose last step is that of a finished episode, for what happens there is rare.

        Args:
            rng: chooses the episodes, each at most once.
            length: T, steps of each window, which may begin in an earlier episode.
            count: at most this many windows.

        Returns:
            Arrays [T, B, …] by key as from `windows`; None if no episode has ended late enough.
        """
        streams, starts = self._episodes[:, 0], self._episodes[:, 1] + self._episodes[:, 2] - length
        fitting = np.flatnonzero(starts >= self._limits[streams, 0])
        if not len(fitting):
            return None
        chosen = rng.permutation(fitting)[:count]
        return self._read(streams[chosen], starts[chosen], length)

    def _read(self, streams: Integers, starts: Integers, length: int) -> Step:
        """The windows [T, B, …] that begin in these rows."""
        widths = self._segments.layout.widths
        lines = {key: np.empty((len(streams), length, width), np.uint8) for key, width in widths.items()}
        with disk_errors(self.directory):
            for b, (stream, row) in enumerate(zip(streams.tolist(), starts.tolist(), strict=True)):
                self._segments.read(stream, row, {key: rows[b] for key, rows in lines.items()})
        steps = {}
        for key, spec in self._specs.items():
            sequences = lines[key].reshape(-1).view(spec.dtype).reshape(len(streams), length, *spec.shape)
            steps[key] = np.ascontiguousarray(sequences.swapaxes(0, 1))
        steps["is_first"][0] = True
        return steps

"""A replay for looking at: nothing in its folder changes, and the run that writes it may go on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReplayError
from reverie.replay.index import Position, sound_pieces
from reverie.replay.index_file import read_index
from reverie.replay.sampling import window_in_streams
from reverie.replay.segments import Bytes, SegmentStore, disk_errors
from reverie.specs import ArraySpec, Step

_COMPARED = 256  # rows at a time

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class ReplayReader:
    """The steps of a replay's commit. Use it as a context manager; it holds files open.

    The run keeps the data of its last two commits, so there is time to read after opening, though not for hours.

    Args:
        directory: folder of the replay.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        position: what `Replay.commit` returned; None is the last commit.

    Raises:
        ReplayError: if there is no replay, or it holds other steps.
    """

    def __init__(self, directory: Path, steps: Mapping[str, ArraySpec], position: Any = None) -> None:
        self.directory = Path(directory)
        self._specs = dict(steps)
        with disk_errors(self.directory):
            stored = read_index(self.directory, self._specs)
        if stored is None:
            raise ReplayError(
                f"There is no replay in {self.directory}; give the folder of a run that still has its own."
            )
        commit = stored.commits[-1] if position is None else Position.from_json(position)
        self._limits = np.array([(s.first, s.stop) for s in commit.streams], np.int64).reshape(-1, 2)
        log = stored.episodes[max(commit.evicted - stored.first_episode, 0) :]
        self._episodes = log[: max(commit.episodes - max(commit.evicted, stored.first_episode), 0)]
        self._segments = SegmentStore(self.directory, self._specs, stored.segment_steps, stored.identity)
        self._lost = stored.lost

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

    def digest(self) -> str:
        """SHA-256 of every step, in hexadecimal: equal ones have equal steps, episodes and streams.

        Steps that were given up do not count.
        """
        hashed = hashlib.sha256(self._limits.tobytes() + np.ascontiguousarray(self._episodes).tobytes())
        for stream, first, stop in self._pieces.tolist():
            for row in range(first, stop, _COMPARED):
                rows = self._rows(stream, row, min(stop - row, _COMPARED))
                for key in sorted(rows):
                    hashed.update(rows[key].tobytes())
        return hashed.hexdigest()

    @property
    def longest(self) -> int:
        """Most steps of one stream in a row."""
        return int((self._pieces[:, 2] - self._pieces[:, 1]).max(initial=0))

    @property
    def _pieces(self) -> Integers:
        """Rows that can be read, see `sound_pieces`."""
        return sound_pieces(self._limits.tolist(), self._lost)

    def leave_out_shared(self, other: "ReplayReader") -> int:
        """Leave out the first steps of each stream if another replay begins with them, too.

        Two runs with one seed begin with the same random play, bit for bit, and part for good with the first action
        that differs. Rows are compared from the first that both still hold; what lies before it cannot be told apart,
        and is left out, too. A stream that the other replay does not have is kept whole.

        Args:
            other: a replay with steps of the same shapes.

        Returns:
            Steps that were left out.
        """
        before = self.num_steps
        for stream, (own, others) in enumerate(zip(self._limits, other._limits, strict=False)):
            if others[0] < others[1]:
                self._limits[stream, 0] = np.clip(self._first_difference(other, stream), *own)
        return before - self.num_steps

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
        if self.longest < length:
            raise ReplayError(
                f"The replay in {self.directory} holds {self.longest} steps in a row at its last checkpoint, but "
                f"{length} are needed; let the run go on, or look at fewer."
            )
        pieces = self._pieces
        chosen, starts = window_in_streams(pieces[:, 1], pieces[:, 2], length, count, rng)
        return self._read(pieces[chosen, 0], starts, length)

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
        pieces = self._pieces
        fitting = np.flatnonzero(
            (
                (pieces[:, 0] == streams[:, None])
                & (pieces[:, 1] <= starts[:, None])
                & (starts[:, None] + length <= pieces[:, 2])
            ).any(1)
        )
        if not len(fitting):
            return None
        chosen = rng.permutation(fitting)[:count]
        return self._read(streams[chosen], starts[chosen], length)

    def _first_difference(self, other: "ReplayReader", stream: int) -> int:
        """First row of a stream in which both replays differ, or at which one of them ends.

        What lies before a row that was given up cannot be compared, either.
        """
        (own_first, own_stop), (first, stop) = self._limits[stream].tolist(), other._limits[stream].tolist()
        gone = [gap.stop for gap in (*self._lost, *other._lost) if gap.stream == stream]
        first, stop = max(own_first, first, *gone), min(own_stop, stop)
        for row in range(first, stop, _COMPARED):
            pair = [reader._rows(stream, row, min(stop - row, _COMPARED)) for reader in (self, other)]
            same = np.logical_and.reduce([(pair[0][key] == pair[1][key]).all(1) for key in pair[0]])
            if not same.all():
                return row + int(same.argmin())
        return max(first, stop)

    def _rows(self, stream: int, row: int, count: int) -> dict[str, Bytes]:
        """Bytes [count, width] of consecutive rows of a stream."""
        lines = {key: np.empty((count, width), np.uint8) for key, width in self._segments.layout.widths.items()}
        with disk_errors(self.directory):
            self._segments.read(stream, row, lines)
        return lines

    def _read(self, streams: Integers, starts: Integers, length: int) -> Step:
        """The windows [T, B, …] that begin in these rows."""
        found = [self._rows(*place, length) for place in zip(streams.tolist(), starts.tolist(), strict=True)]
        steps = {}
        for key, spec in self._specs.items():
            lines = np.stack([rows[key] for rows in found])
            sequences = lines.reshape(-1).view(spec.dtype).reshape(len(found), length, *spec.shape)
            steps[key] = np.ascontiguousarray(sequences.swapaxes(0, 1))
        steps["is_first"][0] = True
        return steps

"""The replay: steps in, training sequences out.

A replay is a folder: `index.json` says which rows are committed and which episodes they form, and the segments (see
`segments.py`) hold the arrays. The index is replaced as a whole by a commit, after the rows that it counts have
reached the disk. Rows written since then are not counted by it, so a program that dies leaves the last commit behind.
Rows beyond it, which reach the disk within `replay.fsync_interval`, can be counted again (`Replay.take_back`).

The data of the last two commits are not deleted, even where they exceed the capacity: a checkpoint that was not
completed after its commit still leaves the one before it.

Every row is compared with its checksum when it is read, so that a batch holds what was stored or is not drawn at all.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay.index import EpisodeIndex, Integers, Position, Stream
from reverie.replay.index_file import IndexFile, read_index, write_index
from reverie.replay.later import TakenBack, take_back
from reverie.replay.sampling import window_in_streams, window_start
from reverie.replay.segments import SAFETENSORS_DTYPES, Bytes, SegmentStore, disk_errors, remedy, segment_steps
from reverie.replay.verifying import examine
from reverie.specs import ArraySpec, Step

_AT_ONCE = 256
"""Steps of an episode that are read at a time."""


class ReplayBuffer:
    """Steps of one or several environments on disk, bounded in number, and sequences drawn from them.

    Creates the folder, or reopens the replay in it as of its last commit. In memory it takes a few
    megabytes and 24 bytes per episode; the steps stay on disk.

    Args:
        directory: folder of the replay.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        config: bounds and sampling; may differ from those that the replay was written with.
        num_streams: N, environments that feed it. A reopened replay keeps the streams that it has beyond these.

    Raises:
        ReplayError: if the folder holds something else, or a replay of other steps.
    """

    def __init__(self, directory: Path, steps: Mapping[str, ArraySpec], config: ReplayConfig, num_streams: int) -> None:
        self.directory = Path(directory)
        self._config = config
        self._num_streams = num_streams
        self._specs = dict(steps)
        self._scratch: dict[str, Bytes] = {}
        unknown = {spec.dtype for spec in steps.values()} - set(SAFETENSORS_DTYPES)
        if unknown:
            raise ReplayError(f"The replay cannot store arrays of dtype {', '.join(sorted(unknown))}.")
        with disk_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            stored = read_index(self.directory, self._specs)
        held = max(len(commit.streams) for commit in stored.commits) if stored else 0
        # SPEC 45: an episode must have more steps than the sequence, its reset step included.
        self._index = EpisodeIndex(max(num_streams, held), config.capacity, config.batch_length + 1)
        rows = stored.segment_steps if stored else segment_steps(config.capacity, num_streams)
        identity = stored.identity if stored else secrets.randbits(62)
        self._segments = SegmentStore(self.directory, self._specs, rows, identity, config.fsync_interval)
        self._cleaned: list[int] = []  # First segment of each stream that was kept when dead ones were last deleted.
        self._has_later = False  # Whether rows after a commit that it went back to may still be taken back.
        self._pristine = bool(stored)  # A reopened replay is not touched before it is first written to.
        if stored is None:
            self._kept = [self._index.position()]  # The last two commits.
            with disk_errors(self.directory):
                self._write_index(self._kept)
        else:
            self._kept = stored.commits
            self._index.lost = stored.lost
            self._index.restore(self._kept[-1], self._kept[0], stored.first_episode, stored.episodes)
            self._index.evict()

    @property
    def num_steps(self) -> int:
        """Steps that are remembered, at most `replay.capacity`; short and unfinished episodes are counted."""
        return self._index.num_steps

    @property
    def num_episodes(self) -> int:
        """Finished episodes that are long enough to be sampled."""
        return self._index.num_eligible

    def add(self, step: Step, rows: NDArray[np.bool_] | None = None) -> None:
        """Append one step of each environment.

        A step with `is_first` begins an episode; one that was open in its stream ends there, as truncated. A step
        with `is_last` finishes the episode.

        Args:
            step: arrays [N, ...]; row i goes to stream i.
            rows: bool [N], which rows are appended; None appends all.

        Raises:
            ReplayError: if the step does not fit, then or on a full disk nothing of it is remembered.
        """
        data = self._as_bytes(step)
        if rows is not None and rows.shape != (self._num_streams,):
            raise ReplayError(f"rows has shape {rows.shape}, but there are {self._num_streams} environments.")
        chosen = range(self._num_streams) if rows is None else np.flatnonzero(rows).tolist()
        is_first, is_last = step["is_first"].tolist(), step["is_last"].tolist()
        streams = self._index.streams
        for i in chosen:
            if not is_first[i] and streams[i].open_since is None:
                raise ReplayError(
                    f"The step of environment {i} follows the end of an episode, or is its very first one, "
                    "but is_first is not set; reset the environment."
                )
        with disk_errors(self.directory):
            self._prepare()
            if self._has_later:
                self._forget_later()
            try:
                checksums = [self._write(i, {k: lines[i] for k, lines in data.items()}, is_first[i]) for i in chosen]
            except OSError:
                with suppress(OSError, ReplayError):
                    for i in chosen:
                        self._mark_last(i, False)
                raise
        for i, checksum in zip(chosen, checksums, strict=True):
            self._index.append(i, is_first[i], is_last[i], checksum)
        if self._index.evict():
            self._delete_forgotten()

    def latest_episode(self, stream: int, length: int) -> Iterator[Step]:
        """The newest `length` steps of a stream, in order; nothing if they are not all remembered.

        Args:
            stream: number of the environment.
            length: steps of its latest episode, finished or not, the reset step included.

        Yields:
            Arrays `[K, ...]` by key, the first time of the first step alone.
        """
        stop = self._index.streams[stream].stop
        start = stop - length
        if start < self._index.streams[stream].first or not self._index.is_whole(stream, start, stop):
            return
        borders = [start, *range(start + 1, stop, _AT_ONCE), stop]
        for first, last in pairwise(borders):
            widths = self._segments.layout.widths
            rows = {key: np.empty((last - first, width), np.uint8) for key, width in widths.items()}
            with disk_errors(self.directory):
                self._segments.read(stream, first, rows)
            yield {
                key: rows[key].reshape(-1).view(spec.dtype).reshape(last - first, *spec.shape)
                for key, spec in self._specs.items()
            }

    def truncate_episodes(self, streams: Iterable[int] | None = None) -> None:
        """Finish open episodes as truncated: their environments start afresh.

        The last step of each is marked `is_last`, and not `is_terminal`.

        Args:
            streams: numbers of the environments; None for all of them.
        """
        with disk_errors(self.directory):
            self._prepare()
            for stream in range(len(self._index.streams)) if streams is None else streams:
                self._index.streams[stream].checksum = self._mark_last(stream)
                self._index.close(stream)

    def check_sampleable(self, frames_per_step: int = 1) -> None:
        """Make sure that sequences can be drawn.

        Args:
            frames_per_step: `env.action_repeat`, for the message.

        Raises:
            ReplayError: if not, with the reason.
        """
        length = self._config.batch_length
        if self._config.sampling == "steps":
            pieces = self._index.pieces()
            longest = (pieces[:, 2] - pieces[:, 1]).max(initial=0)
            if longest < length:
                raise ReplayError(
                    f"replay.batch_length={length} is longer than what the replay holds of any environment "
                    f"({longest} steps); lower replay.batch_length, or raise training.prefill or replay.capacity."
                )
        elif not self._index.num_eligible:
            raise ReplayError(
                self.too_short(frames_per_step)
                or f"None of the {self.num_steps} steps in the replay belongs to a finished episode, so no sequence "
                "can be drawn; raise training.prefill or replay.capacity, or set replay.sampling=steps."
            )

    def too_short(self, frames_per_step: int = 1) -> str:
        """Say that all finished episodes are too short to be sampled; empty if one is not, or none has finished.

        Args:
            frames_per_step: `env.action_repeat`, for the message.
        """
        if self._config.sampling == "steps" or self._index.num_eligible:
            return ""
        totals, length = self._index.all_episodes()[:, 2], self._config.batch_length
        if not len(totals):
            return ""
        longest = int(totals.max())
        frames = ""
        if frames_per_step > 1:
            frames = f" ({(longest - 1) * frames_per_step} frames at env.action_repeat={frames_per_step})"
        return (
            f"replay.batch_length={length} is too long for all of the {len(totals)} finished episodes: one of at "
            f"least {length + 1} steps is needed, and the longest has {longest}{frames}; "
            "lower replay.batch_length, or set replay.sampling=steps."
        )

    def sample(self, rng: np.random.Generator, out: Step | None = None) -> Step:
        """Draw a batch of sequences.

        With `replay.sampling=episodes`, an episode is drawn uniformly and then a window in it (SPEC 46, see
        `window_start`); with `steps`, a window of consecutive steps of one stream, uniformly. The first step of each
        sequence is marked `is_first`, so that no state is carried into it.

        Args:
            rng: source of the draws; the same state gives the same batch.
            out: arrays to fill instead of new ones, as returned by an earlier call.

        Returns:
            Arrays [T, B, ...] by key; T is replay.batch_length and B replay.batch_size.

        Raises:
            ReplayError: if no sequence can be drawn, or the data are damaged.
        """
        streams, starts = self._draw(rng)
        length, batch = self._config.batch_length, self._config.batch_size
        if out is None:
            out = {k: np.empty((length, batch, *spec.shape), spec.dtype) for k, spec in self._specs.items()}
        if not self._scratch:
            widths = self._segments.layout.widths
            self._scratch = {key: np.empty((batch, length, width), np.uint8) for key, width in widths.items()}
        with disk_errors(self.directory):
            for b, (stream, row) in enumerate(zip(streams.tolist(), starts.tolist(), strict=True)):
                self._segments.read(stream, row, {key: lines[b] for key, lines in self._scratch.items()})
        for key, spec in self._specs.items():
            sequences = self._scratch[key].reshape(-1).view(spec.dtype).reshape(batch, length, *spec.shape)
            np.copyto(out[key], sequences.swapaxes(0, 1), casting="no")
        out["is_first"][0] = True
        return out

    def commit(self) -> dict[str, object]:
        """Put everything appended so far on the disk.

        Returns:
            The position, of JSON's types, for `rewind`. It is small, whatever the size of the replay.

        Raises:
            ReplayError: if the disk is full; the last commit is then still intact.
        """
        position = self._index.position()
        kept = [*[commit for commit in self._kept if commit != position][-1:], position]
        with disk_errors(self.directory):
            self._prepare()
            self._segments.flush()
            self._write_index(kept)
        self._kept = kept
        self._index.forget_log_before(min(commit.evicted for commit in kept))
        self._delete_forgotten()
        return position.to_json()

    def open_steps(self, stream: int) -> int:
        """Steps of the running episode of a stream, the reset step included; 0 between episodes."""
        state = self._index.streams[stream]
        return 0 if state.open_since is None else state.stop - state.open_since

    def check(self, position: Any) -> None:
        """Compare every row that a position holds with its checksum, at about a gigabyte a second.

        Args:
            position: as returned by `commit`, possibly of an earlier process.

        Raises:
            ReplayError: for the first one that is damaged.
        """
        damage = examine(self.directory, self._specs, [position], alone=True).damage
        if damage:
            more = f", and {len(damage) - 1} more" if len(damage) > 1 else ""
            raise ReplayError(f"{self.directory / damage[0].file} {damage[0].what}{more}; {remedy(self.directory)}.")

    def rewind(self, position: Any) -> bool:
        """Go back to a committed position: steps appended after it are forgotten.

        For the positions of the last two commits this restores the replay exactly, steps that were dropped meanwhile
        included; for older ones, those may be gone. An episode that was open is open again.

        Args:
            position: as returned by `commit`, possibly of an earlier process.

        Returns:
            Whether everything is there that was remembered then.

        Raises:
            ReplayError: if the position is not one of this replay.
        """
        target = Position.from_json(position)
        self._check_belongs(target)
        known = self._kept.index(target) if target in self._kept else None
        self._has_later = known is not None
        self._index.restore(target, self._kept[0])
        found = self._index.position()  # of more streams, where environments were added
        whole = found.evicted == target.evicted and found.streams[: len(target.streams)] == target.streams
        self._kept = [self._index.position()] if known is None else self._kept[: known + 1]
        self._pristine = True
        with disk_errors(self.directory):
            self._segments.flush()
            self._write_index(self._kept)  # Before any row that the old index counted is touched.
            self._prepare()
            for number, stream in enumerate(self._index.streams):
                if stream.steps and self._index.is_whole(number, stream.stop - 1, stream.stop):
                    self._segments.check_stored(number, stream.stop - 1, stream.checksum)
        if self._index.evict():
            self._delete_forgotten()
        return whole

    def recover_uncommitted(self, streams: Iterable[int] | None = None) -> TakenBack:
        """Count rows again that were stored after the position that the replay has just gone back to.

        Only after one of the last two commits: whoever goes further back wants to do without what came then.

        Args:
            streams: numbers of the environments; None for all of them.

        Returns:
            How much there was; nothing in a replay without checksums.
        """
        found = TakenBack(0, 0)
        if self._has_later:
            chosen = range(len(self._index.streams)) if streams is None else streams
            with disk_errors(self.directory):
                found = take_back(self._segments, self._index, chosen, self._mark_last)
            self._index.evict()
            self._forget_later()
        return found

    def close(self) -> None:
        """Commit, and close all files."""
        try:
            if not self._pristine and self._kept[-1] != self._index.position():
                self.commit()
        finally:
            self._segments.close()

    def _draw(self, rng: np.random.Generator) -> tuple[Integers, Integers]:
        """Stream and first row of each sequence of a batch."""
        self.check_sampleable()
        length, batch = self._config.batch_length, self._config.batch_size
        if self._config.sampling == "steps":
            pieces = self._index.pieces()
            chosen, starts = window_in_streams(pieces[:, 1], pieces[:, 2], length, batch, rng)
            return pieces[chosen, 0], starts
        episodes = self._index.eligible_episodes(rng.integers(self._index.num_eligible, size=batch))
        end_bonus = length if self._config.prioritize_ends else 0
        return episodes[:, 0], episodes[:, 1] + window_start(episodes[:, 2], length, end_bonus, rng)

    def _as_bytes(self, step: Step) -> dict[str, Bytes]:
        missing, unknown = self._specs.keys() - step.keys(), step.keys() - self._specs.keys()
        if missing or unknown:
            kinds = (("missing", missing), ("unknown", unknown))
            text = "; ".join(f"{kind}: {', '.join(sorted(keys))}" for kind, keys in kinds if keys)
            raise ReplayError(f"A step does not have the entries that the replay stores ({text}).")
        data = {}
        for key, spec in self._specs.items():
            array, shape = step[key], (self._num_streams, *spec.shape)
            if array.shape != shape or array.dtype != spec.dtype:
                raise ReplayError(
                    f"The replay stores '{key}' as {spec.dtype} {list(shape)}, one row per environment, "
                    f"but was given {array.dtype} {list(array.shape)}."
                )
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            data[key] = flat.reshape(self._num_streams, self._segments.layout.widths[key])
        return data

    def _write(self, stream: int, row: Mapping[str, Bytes], is_first: bool) -> int:
        """Write the next row of a stream, and return its checksum. An open episode ends before the first of another."""
        state = self._index.streams[stream]
        before = self._mark_last(stream) if is_first else state.checksum
        return self._segments.write(stream, state.stop, row, before)

    def _mark_last(self, stream: int, is_last: bool = True) -> int:
        """Overwrite `is_last` in the newest row of a stream whose episode is open.

        Returns:
            Checksum of the newest row.

        Raises:
            ReplayError: if the row is damaged. One whose mark was half written is not.
        """
        state = self._index.streams[stream]
        number = state.stop - 1
        if state.open_since is None or not state.steps or not self._index.is_whole(stream, number, state.stop):
            return state.checksum
        row, before = self._segments.read_unchecked(stream, number)
        row["is_last"][:] = False  # As it was counted.
        if self._segments.checksum(stream, number, row, before) != state.checksum:
            raise self._segments.damaged(stream, number)
        row["is_last"][:] = is_last
        return self._segments.write(stream, number, row, before)

    def _prepare(self) -> None:
        """Before the first write after reopening or rewinding: undo what was written after that position."""
        if not self._pristine:
            return
        for stream in range(len(self._index.streams)):
            self._mark_last(stream, False)
        self._pristine = False
        self._cleaned = []
        self._delete_forgotten()

    def _forget_later(self) -> None:
        """Rows after the newest are written anew from here on."""
        self._has_later = False
        self._cleaned = []
        self._delete_forgotten()

    def _delete_forgotten(self) -> None:
        """Delete segments without rows that are remembered now, were at the last two commits, or may be taken back."""
        positions = [self._index.position(), *self._kept]
        for number in range(len(self._index.streams)):
            streams = [position.streams[number] for position in positions if number < len(position.streams)]
            holding = [stream for stream in streams if stream.steps] or [Stream()]
            first, stop = min(stream.first for stream in holding), max(stream.stop for stream in holding)
            cleaned = self._cleaned[number] if number < len(self._cleaned) else -1
            if first // self._segments.steps != cleaned:
                with disk_errors(self.directory):
                    self._segments.keep_only(number, first, None if self._has_later else stop)
                self._cleaned[number : number + 1] = [first // self._segments.steps]

    def _check_belongs(self, position: Position) -> None:
        present = self._index.streams
        if len(position.streams) > len(present) or any(
            then.stop > now.stop for then, now in zip(position.streams, present, strict=False)
        ):
            raise ReplayError(
                f"The checkpoint was written when the replay in {self.directory} held more than it holds now: "
                "they do not belong together."
            )

    def _write_index(self, commits: list[Position]) -> None:
        index, segments = self._index, self._segments
        content = IndexFile(segments.identity, segments.steps, commits, index.base, index.log, index.lost)
        write_index(self.directory, self._specs, content)

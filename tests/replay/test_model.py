"""The replay against a brute-force model of it: lists of steps in memory, copied as a whole at each commit."""

import copy
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import Replay
from reverie.specs import STEP_KEYS, ArraySpec, Step

SPECS = {"image": ArraySpec((2, 3, 1), "uint8"), "action": ArraySpec((2,), "float32"), **STEP_KEYS}
SEGMENT_STEPS = 4
STREAMS = 3
# A failure is not simplified: that takes minutes, and the sequences of rules are short enough to read.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@dataclass
class Row:
    """A stored step; everything else follows from its number."""

    number: int
    is_first: bool
    is_last: bool

    def value(self, key: str) -> np.ndarray:
        flags = {"is_first": self.is_first, "is_last": self.is_last, "is_terminal": self.number % 3 == 0}
        value = flags.get(key, self.number % 251)
        return np.full(SPECS[key].shape, value, SPECS[key].dtype)


@dataclass
class Model:
    """What is remembered."""

    finished: list[tuple[int, list[Row]]] = field(default_factory=list)
    open: list[list[Row] | None] = field(default_factory=lambda: [None] * STREAMS)

    def close(self, stream: int) -> None:
        rows = self.open[stream]
        if rows is not None:
            if rows:
                rows[-1].is_last = True
            self.finished.append((stream, rows))
            self.open[stream] = None

    def add(self, stream: int, row: Row) -> None:
        if row.is_first:
            self.close(stream)
            self.open[stream] = []
        self.open[stream].append(row)
        if row.is_last:
            self.close(stream)

    def evict(self, capacity: int, least: int) -> None:
        while self.num_steps > capacity:
            long = [episode for episode in self.finished if len(episode[1]) >= least]
            if not self.finished:
                max((rows for rows in self.open if rows), key=len).pop(0)
            elif len(long) == 1 and long[0] is self.finished[0] and len(long[0][1]) > least:
                long[0][1].pop(0)
            else:
                self.finished.pop(0)

    @property
    def num_steps(self) -> int:
        return sum(len(rows) for rows in self.runs("episodes")) + sum(len(rows or []) for rows in self.open)

    def runs(self, sampling: str) -> list[list[Row]]:
        """Rows from which windows may be cut."""
        if sampling == "episodes":
            return [rows for _, rows in self.finished]
        streams: list[list[Row]] = [[] for _ in range(STREAMS)]
        for stream, rows in self.finished:
            streams[stream] += rows
        return [rows + (self.open[stream] or []) for stream, rows in enumerate(streams)]


class ReplayMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.patch = patch("reverie.replay.storage.segment_steps", lambda capacity, streams: SEGMENT_STEPS)
        self.patch.start()
        self.model = Model()
        self.commits: list[tuple[Any, Model]] = []
        self.replay: Replay | None = None
        self.number = 0

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.open(data)

    def open(self, data: st.DataObject) -> None:
        self.config = ReplayConfig(
            capacity=data.draw(st.integers(8, 40), "capacity"),
            batch_size=4,
            batch_length=data.draw(st.integers(2, 5), "batch_length"),
            sampling=data.draw(st.sampled_from(["episodes", "steps"]), "sampling"),
            prioritize_ends=data.draw(st.booleans(), "prioritize_ends"),
        )
        self.streams = data.draw(st.integers(1, STREAMS), "streams")
        self.replay = Replay(self.directory, SPECS, self.config, self.streams)
        self.model = copy.deepcopy(self.commits[-1][1]) if self.commits else Model()
        self.evict()

    def evict(self) -> None:
        self.model.evict(self.config.capacity, self.config.batch_length + 1)

    @rule(count=st.integers(1, 16), calm=st.booleans(), data=st.data())
    def add(self, count: int, calm: bool, data: st.DataObject) -> None:
        """Some steps; in calm times no episode ends."""
        for _ in range(count):
            chosen = np.array(data.draw(st.lists(st.booleans(), min_size=self.streams, max_size=self.streams)))
            step = {key: np.zeros((self.streams, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
            for stream in np.flatnonzero(chosen):
                self.number += 1
                begin = self.model.open[stream] is None or (not calm and data.draw(st.integers(0, 9)) == 9)
                row = Row(self.number, begin, not calm and data.draw(st.integers(0, 5)) == 5)
                for key, array in step.items():
                    array[stream] = row.value(key)
                self.model.add(stream, row)
            self.replay.add(step, chosen)
            self.evict()

    @rule()
    def end_streams(self) -> None:
        self.replay.end_streams()
        for stream in range(STREAMS):
            self.model.close(stream)

    @rule()
    def commit(self) -> None:
        position = json.loads(json.dumps(self.replay.commit()))
        self.remember(position)

    def remember(self, position: Any) -> None:
        if not self.commits or self.commits[-1][0] != position:
            self.commits = [*self.commits[-1:], (position, copy.deepcopy(self.model))]

    @precondition(lambda self: self.commits)
    @rule(back=st.integers(1, 2))
    def rewind(self, back: int) -> None:
        self.commits = self.commits[: max(len(self.commits) - back + 1, 1)]
        self.replay.rewind(self.commits[-1][0])
        self.model = copy.deepcopy(self.commits[-1][1])
        self.evict()

    @rule(data=st.data())
    def close_and_reopen(self, data: st.DataObject) -> None:
        self.replay.close()
        commits = json.loads((self.directory / "index.json").read_text())["commits"]
        self.remember(commits[-1])
        self.open(data)

    @rule(data=st.data())
    def crash_and_reopen(self, data: st.DataObject) -> None:
        self.replay._segments.close()
        self.open(data)
        if self.commits:  # What a resumed run does; until then, the flags of an episode's end may be newer.
            self.rewind(1)

    @rule(seed=st.integers(0, 100))
    def sample(self, seed: int) -> None:
        length = self.config.batch_length
        least = length + (self.config.sampling == "episodes")
        runs = [rows for rows in self.model.runs(self.config.sampling) if len(rows) >= least]
        if not runs:
            try:
                self.replay.sample(np.random.default_rng(seed))
            except ReplayError:
                return
            raise AssertionError("There is nothing to sample.")
        batch = self.replay.sample(np.random.default_rng(seed))
        windows = [rows[start : start + length] for rows in runs for start in range(len(rows) - length + 1)]
        allowed = {_bytes(_drawn(window)) for window in windows}
        for b in range(self.config.batch_size):
            assert _bytes({key: array[:, b] for key, array in batch.items()}) in allowed

    @invariant()
    def counts_agree(self) -> None:
        if self.replay is not None:
            least = self.config.batch_length + 1
            assert self.replay.num_steps == self.model.num_steps <= self.config.capacity
            assert self.replay.num_episodes == sum(len(rows) >= least for _, rows in self.model.finished)

    @invariant()
    def every_row_agrees(self) -> None:
        if self.replay is not None:
            for number, rows in enumerate(self.model.runs("steps")[: len(self.replay._index.streams)]):
                stream = self.replay._index.streams[number]
                stored = {key: np.empty((stream.steps, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
                if rows:
                    lines = {
                        key: array.reshape(-1).view(np.uint8).reshape(len(rows), -1) for key, array in stored.items()
                    }
                    self.replay._segments.read(number, stream.first, lines)
                    assert _bytes(stored) == _bytes(_stack(rows))
                assert stream.steps == len(rows)

    @invariant()
    def only_needed_files_stay(self) -> None:
        if self.replay is not None and not self.replay._pristine:
            models = [self.model, *(model for _, model in self.commits)]
            needed = sum(model.num_steps for model in models) // SEGMENT_STEPS + 2 * STREAMS * len(models)
            assert len(list(self.directory.glob("*.safetensors"))) <= needed

    def teardown(self) -> None:
        if self.replay is not None:
            self.replay.close()
        self.patch.stop()
        shutil.rmtree(self.directory)


def _stack(window: list[Row]) -> Step:
    return {key: np.stack([row.value(key) for row in window]) for key in SPECS}


def _drawn(window: list[Row]) -> Step:
    step = _stack(window)
    step["is_first"][0] = True
    return step


def _bytes(step: Step) -> bytes:
    return b"".join(step[key].tobytes() for key in SPECS)


TestReplayMachine = ReplayMachine.TestCase
TestReplayMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None, phases=PHASES)

"""The replay buffer compared with a brute-force model: lists of steps in memory, copied as a whole at each commit."""

import copy
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import ReplayBuffer, verify
from reverie.specs import STEP_KEYS, ArraySpec, Step

SPECS = {"image": ArraySpec((2, 3, 1), "uint8"), "action": ArraySpec((2,), "float32"), **STEP_KEYS}
ENVS = 3
MAX_CAPACITY = 40
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
    open: list[list[Row]] = field(default_factory=lambda: [[] for _ in range(ENVS)])
    is_open: list[bool] = field(default_factory=lambda: [False] * ENVS)
    num_envs: int = 1

    def close(self, env: int, is_split: bool = False) -> None:
        if self.open[env]:
            self.open[env][-1].is_last = True
            self.finished.append((env, self.open[env]))
        self.open[env] = []
        self.is_open[env] = is_split

    def add(self, env: int, row: Row, capacity: int, least: int) -> None:
        if row.is_first:
            self.close(env)
        row.is_first = not self.open[env]
        self.is_open[env] = True
        self.open[env].append(row)
        if row.is_last:
            self.close(env)
        elif sum(map(len, self.open)) >= capacity and len(self.open[env]) >= max(capacity // self.num_envs, least):
            self.close(env, is_split=True)

    def evict(self, capacity: int, least: int) -> None:
        while self.num_steps > capacity and self.finished:
            long = [rows for _, rows in self.finished if len(rows) >= least]
            if len(long) == 1 and long[0] is self.finished[0][1] and self.num_steps <= 2 * capacity:
                break
            self.finished.pop(0)

    @property
    def num_steps(self) -> int:
        return sum(len(rows) for rows in self.runs("episodes") + self.open)

    def runs(self, sampling: str) -> list[list[Row]]:
        """Rows from which windows may be cut."""
        if sampling == "episodes":
            return [rows for _, rows in self.finished]
        envs: list[list[Row]] = [[] for _ in range(ENVS)]
        for env, rows in self.finished:
            envs[env] += rows
        return [rows + self.open[env] for env, rows in enumerate(envs)]


class ReplayMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.num_crashes = 0
        self.model = Model()
        self.commits: list[tuple[Any, Model]] = []
        self.replay: ReplayBuffer | None = None
        self.number = 0
        self.num_uncommitted = 0

    @property
    def path(self) -> Path:
        return self.directory / str(self.num_crashes) / "replay.db"

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.open(data)

    def open(self, data: st.DataObject) -> None:
        self.config = ReplayConfig(
            capacity=data.draw(st.integers(8, MAX_CAPACITY), "capacity"),
            batch_size=4,
            batch_length=data.draw(st.integers(2, 5), "batch_length"),
            sampling=data.draw(st.sampled_from(["episodes", "steps"]), "sampling"),
            prioritize_ends=data.draw(st.booleans(), "prioritize_ends"),
            fsync_interval=0,
        )
        self.envs = data.draw(st.integers(1, ENVS), "envs")
        self.replay = ReplayBuffer(self.path, SPECS, self.config, self.envs)
        self.replay.transaction_steps = data.draw(st.sampled_from([1, 5, 100]), "transaction_steps")
        self.model = copy.deepcopy(self.commits[-1][1]) if self.commits else Model()
        self.model.num_envs = max(self.model.num_envs, self.envs)
        self.num_uncommitted = 0

    @rule(count=st.integers(1, 16), calm=st.booleans(), data=st.data())
    def add(self, count: int, calm: bool, data: st.DataObject) -> None:
        """Some steps; in calm times no episode ends."""
        least = self.config.batch_length + 1
        capacity = max(self.config.capacity, least)
        for _ in range(count):
            chosen = np.array(data.draw(st.lists(st.booleans(), min_size=self.envs, max_size=self.envs)))
            step = {key: np.zeros((self.envs, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
            for env in np.flatnonzero(chosen):
                self.number += 1
                begin = not self.model.is_open[env] or (not calm and data.draw(st.integers(0, 9)) == 9)
                row = Row(self.number, begin, not calm and data.draw(st.integers(0, 5)) == 5)
                for key, array in step.items():
                    array[env] = row.value(key)
                self.model.add(env, row, capacity, least)
            self.replay.add(step, chosen)
            self.num_uncommitted += int(chosen.sum())
            self.model.evict(capacity, least)
            assert self.replay.num_steps <= 2 * capacity + ENVS * least

    @rule()
    def truncate_episodes(self) -> None:
        self.replay.truncate_episodes()
        for env in range(ENVS):
            self.model.close(env)

    @rule()
    def commit(self) -> None:
        commit = json.loads(json.dumps(self.replay.commit()))
        self.remember(commit)
        health = verify(self.path, SPECS, [each for each, _ in self.commits])
        assert not health.damage
        self.num_uncommitted = 0

    def remember(self, commit: Any) -> None:
        if not self.commits or self.commits[-1][0] != commit:
            self.commits = [*self.commits[-1:], (commit, copy.deepcopy(self.model))]

    @precondition(lambda self: self.commits)
    @rule(back=st.integers(1, 2))
    def rewind(self, back: int) -> None:
        self.commits = self.commits[: max(len(self.commits) - back + 1, 1)]
        commit, model = self.commits[-1]
        self.replay.check(commit)
        assert self.replay.rewind(commit)
        self.model = copy.deepcopy(model)
        self.model.num_envs = max(self.model.num_envs, self.envs)
        self.num_uncommitted = 0

    @precondition(lambda self: self.commits and self.num_uncommitted)
    @rule()
    def rewind_and_recover(self) -> None:
        if self.commits[-1][1].num_steps + self.num_uncommitted > self.config.capacity:
            return  # Evicting at once is not always evicting step by step.
        assert self.replay.rewind(self.commits[-1][0])
        num_steps, _ = self.replay.recover_uncommitted()
        assert num_steps <= self.num_uncommitted
        self.truncate_episodes()  # as training does

    @rule(data=st.data())
    def close_and_reopen(self, data: st.DataObject) -> None:
        self.replay.close()
        assert [path.name for path in self.path.parent.iterdir()] == ["replay.db"]
        with closing(sqlite3.connect(self.path)) as database:
            [(commits,)] = database.execute("SELECT value FROM meta WHERE key = 'commits'")
        self.remember(json.loads(commits)[-1])
        self.open(data)

    @rule(data=st.data())
    def crash_and_reopen(self, data: st.DataObject) -> None:
        """Continue with a copy of the files, as a killed process leaves them."""
        before = self.path.parent
        self.num_crashes += 1
        shutil.copytree(before, self.path.parent)
        self.replay.close()
        shutil.rmtree(before)
        self.open(data)

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
            assert self.replay.num_steps == self.model.num_steps
            assert self.replay.num_episodes == sum(len(rows) >= least for _, rows in self.model.finished)

    @invariant()
    def every_row_agrees(self) -> None:
        if self.replay is not None:
            for env, rows in enumerate(self.model.runs("steps")[: self.envs]):
                stored = list(self.replay.latest_episode(env, len(rows))) if rows else []
                assert b"".join(_bytes(_row(steps, t)) for steps in stored for t in range(len(steps["reward"]))) == (
                    b"".join(_bytes({key: row.value(key) for key in SPECS}) for row in rows)
                )
                assert not list(self.replay.latest_episode(env, len(rows) + 1))
                assert bool(self.replay.open_steps(env)) == self.model.is_open[env]

    def teardown(self) -> None:
        if self.replay is not None:
            self.replay.close()
        shutil.rmtree(self.directory)


def _stack(window: list[Row]) -> Step:
    return {key: np.stack([row.value(key) for row in window]) for key in SPECS}


def _row(steps: Step, t: int) -> Step:
    return {key: array[t] for key, array in steps.items()}


def _drawn(window: list[Row]) -> Step:
    step = _stack(window)
    step["is_first"][0] = True
    return step


def _bytes(step: Step) -> bytes:
    return b"".join(step[key].tobytes() for key in SPECS)


TestReplayMachine = ReplayMachine.TestCase
TestReplayMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None, phases=PHASES)

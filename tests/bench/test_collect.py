"""Rates on a clock that the test moves."""

import time
from typing import Any

import numpy as np
import pytest

from reverie.bench import collect
from reverie.collectors.collector import Policy
from reverie.collectors.sync_collector import SyncCollector
from reverie.config import preset


class Clock:
    """Clock that only the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_rates(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision of the agent takes 0.5 s, a step of the environments 0.25 s, random actions nothing."""
    plain = SyncCollector.step

    def step(self: SyncCollector, policy: Policy) -> Any:
        clock.now += 0.25
        return plain(self, policy)

    def act(*_: Any, **__: Any) -> Any:
        clock.now += 0.5
        return np.tile(np.eye(2, dtype=np.float32)[0], (3, 1))

    monkeypatch.setattr(SyncCollector, "step", step)
    monkeypatch.setattr(collect.AgentPolicy, "__call__", act)
    config = preset("vector").override(**{"env.num_envs": 3, "env.parallel": False})
    result = collect.measure_collect(config, "vector", repeats=2, seconds=2)
    assert result["without_policy_steps_per_second_all"] == [12.0, 12.0]
    assert result["with_policy_steps_per_second_all"] == [4.0, 4.0]
    assert result["act_seconds_all"] == [0.5, 0.5]

"""Rates on a clock that the test moves, and the game and settings of bare ale-py."""

import time
from typing import Any, ClassVar

import numpy as np
import pytest

from reverie.bench import bare_ale, collect
from reverie.bench.bare_ale import is_atari, load_emulator, play
from reverie.config import EnvConfig, preset
from reverie.training.collectors import Policy, SyncCollector

BOXING = EnvConfig(name="ALE/Boxing-v5", action_repeat=3, sticky_actions=0.125, full_action_space=True)


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


def test_which_games_are_ataris() -> None:
    assert is_atari(BOXING)
    assert not is_atari(EnvConfig(name="CartPole-v1"))


def test_bare_ale_has_the_settings_of_the_environment(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    emulator = load_emulator(BOXING)
    assert emulator.getFloat("repeat_action_probability") == 0.125
    monkeypatch.setattr(bare_ale, "load_emulator", lambda config: Watched(emulator, clock))
    assert play(BOXING, 5.0) == 4.0
    # One screen after every three frames.
    assert np.diff(Watched.screens).tolist() == [3] * 19


class Watched:
    """Emulator that notes the frame of each screen, which takes a quarter of a second."""

    screens: ClassVar[list[int]] = []

    def __init__(self, emulator: Any, clock: Clock) -> None:
        self._emulator, self._clock = emulator, clock

    def getScreenGrayscale(self) -> None:
        self._clock.now += 0.25
        self.screens.append(self._emulator.getEpisodeFrameNumber())

    def getMinimalActionSet(self) -> None:
        raise AssertionError("all 18 actions are wanted")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._emulator, name)


def test_two_emulators_play_more_than_none() -> None:
    with bare_ale.bare_ale(BOXING, 2) as speed:
        assert speed(0.01) > 0

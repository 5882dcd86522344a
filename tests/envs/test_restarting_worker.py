"""Environments that fail are restarted: their episodes are truncated, those of the others are not."""

import os
import time
from functools import partial
from typing import Any

import numpy as np
import pytest

from reverie.config import EnvConfig
from reverie.envs import VectorEnv, as_factory, make_env
from reverie.errors import ConfigError, EnvError
from reverie.specs import Array
from tests.helpers.environments import Counting, Unreliable

LEFT = np.array([[1, 0]], np.float32)
LENGTH = 20
"""Steps of an episode of `Unreliable`."""


def play(env: VectorEnv, num_steps: int) -> tuple[list[list[dict[str, Array]]], list[EnvError]]:
    """Step until all environments together have taken `num_steps`; return the rows of each one, and the errors."""
    streams: list[list[dict[str, Array]]] = [[] for _ in range(env.num_envs)]
    errors: list[EnvError] = []
    is_over = np.ones(env.num_envs, bool)
    while num_steps > 0:
        if is_over.any():
            first = env.reset(is_over)
            for index in np.flatnonzero(is_over & ~env.failed):
                streams[index].append({key: rows[index] for key, rows in first.items()})
        step = env.step(np.repeat(LEFT, env.num_envs, 0))
        for index in np.flatnonzero(~env.failed):
            streams[index].append({key: rows[index] for key, rows in step.items()})
        num_steps -= int((~env.failed).sum())
        is_over = step["is_last"]
        assert is_over[env.failed].all() and not step["is_terminal"][env.failed].any()
        errors += env.pop_errors()
    return streams, errors


def split_episodes(stream: list[dict[str, Array]]) -> list[list[dict[str, Array]]]:
    """Split the rows of one environment at its resets."""
    episodes: list[list[dict[str, Array]]] = []
    for row in stream:
        if row["is_first"]:
            episodes.append([])
        episodes[-1].append(row)
    return episodes


def count_truncated(streams: list[list[dict[str, Array]]]) -> int:
    """Check that every episode shows one environment from its reset on; return the number of those cut short."""
    truncated = 0
    for stream in streams:
        episodes = split_episodes(stream)
        for episode in episodes:
            observed = np.array([row["vector"] for row in episode])
            assert (observed[:, 0] == np.arange(len(episode))).all() and len(np.unique(observed[:, 1])) == 1
            assert not any(row["is_last"] or row["is_terminal"] for row in episode[:-1])
            assert episode[-1]["is_terminal"] == (len(episode) == LENGTH + 1)
        truncated += sum(len(episode) <= LENGTH for episode in episodes[:-1])
    return truncated


def test_restart_when_environments_raise_or_exit_continues() -> None:
    factory = partial(Unreliable, "raises", "exits")
    with make_env(EnvConfig(num_envs=3, parallel=False), 0, factory, restart=True) as env:
        streams, errors = play(env, 3000)
    assert 100 < len(errors) < 200
    assert count_truncated(streams) > 80
    assert any("the motor is on fire" in str(error) for error in errors)
    assert any("SystemExit" in str(error) for error in errors)
    assert all("Unreliable" in str(error) and "episode" in str(error) for error in errors)


def test_restart_when_processes_raise_die_or_hang_continues() -> None:
    factory = partial(Unreliable, "raises", "exits", "leaves", "SIGKILL", "SIGSEGV", "hangs", probability=0.003)
    with make_env(EnvConfig(num_envs=2, step_timeout=1.0), 1, factory, restart=True) as env:
        streams, errors = play(env, 5000)
    text = " ".join(map(str, errors))
    assert len(errors) >= 8 and count_truncated(streams) >= 5
    for words in ("the motor is on fire", "exit status 7", "killed by signal", "did not answer within 1 seconds"):
        assert words in text, text


def test_restart_without_failures_changes_nothing() -> None:
    seen = []
    for restart in (False, True):
        with make_env(EnvConfig(num_envs=2, parallel=False), 0, partial(Counting, 5), restart=restart) as env:
            streams, _ = play(env, 24)
        seen.append([[row["vector"].tolist() for row in stream] for stream in streams])
    assert seen[0] == seen[1]


def test_restart_after_failures_uses_other_seeds() -> None:
    factory = partial(Unreliable, "raises", probability=0.03)
    with make_env(EnvConfig(num_envs=2, parallel=False), 0, factory, restart=True) as env:
        streams, errors = play(env, 2000)
    assert len(errors) > 20
    for stream in streams:
        numbers = [episode[0]["vector"][1] for episode in split_episodes(stream)]
        assert len(set(numbers)) == len(numbers)  # no episode is played twice


def test_restart_of_one_worker_resets_all_of_its_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed row repeats the observation before it; the next reset includes the environment that did not fail."""
    monkeypatch.setattr("reverie.envs.make.usable_cores", lambda: 1)
    factory = partial(Unreliable, "raises", probability=0.05)
    with make_env(EnvConfig(num_envs=2), 3, factory, restart=True) as env:
        before = env.reset(np.ones(2, bool))
        for _ in range(LENGTH):
            step = env.step(np.repeat(LEFT, 2, 0))
            if env.failed.any():
                break
            before = step
        assert env.failed.all() and len(env.pop_errors()) == 1 and not env.pop_errors()
        np.testing.assert_array_equal(step["vector"], before["vector"])
        np.testing.assert_array_equal(step["reward"], [0, 0])
        assert step["is_last"].all() and not step["is_first"].any()
        assert [state.episode for state in env.get_states()] == [0, 0]  # they are restarted by the reset
        after = env.reset(np.array([True, False]))
        assert after["is_first"].all() and not env.failed.any()


def test_restart_before_the_first_success_raises() -> None:
    def build() -> Any:
        raise RuntimeError("no licence")

    with pytest.raises(EnvError, match="no licence"):
        make_env(EnvConfig(), 0, build, restart=True)

    class Stuck(Counting):
        def reset(self, **_: Any) -> Any:
            raise RuntimeError("no power")

    with make_env(EnvConfig(), 0, Stuck, restart=True) as env, pytest.raises(EnvError, match="no power"):
        env.reset(np.array([True]))


def test_restart_that_fails_again_is_one_more_error() -> None:
    """An environment that fails at a reset, or cannot be created then, is tried again at the next one."""
    created = []

    class Broken(Counting):
        def __init__(self) -> None:
            created.append(len(created))
            if len(created) in (2, 3):
                raise RuntimeError("no licence left")
            super().__init__()

        def step(self, action: Any) -> Any:
            if len(created) == 1:
                raise RuntimeError("the motor is on fire")
            return super().step(action)

    with make_env(EnvConfig(parallel=False), 0, Broken, restart=True) as env:
        env.reset(np.array([True]))
        env.step(LEFT)
        for _ in range(2):
            env.reset(np.array([True]))
            assert env.failed.all() and env.step(LEFT)["is_last"].all()
        assert env.reset(np.array([True]))["is_first"].all() and not env.failed.any()
        texts = [str(error) for error in env.pop_errors()]
    assert ["motor" in text for text in texts] == [True, False, False]
    assert all("no licence left" in text for text in texts[1:])


def test_restart_of_an_instance_raises() -> None:
    _, factory = as_factory(Unreliable("raises", probability=1.0))
    with make_env(EnvConfig(), 0, factory, restart=True) as env:
        env.reset(np.array([True]))
        with pytest.raises(EnvError, match="the motor is on fire"):
            env.step(LEFT)


def test_make_env_with_a_step_timeout_uses_a_process_for_one_environment() -> None:
    class Where(Counting):
        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, float(os.getpid()), *rest

    with make_env(EnvConfig(step_timeout=20.0), 0, Where) as env:
        env.reset(np.array([True]))
        assert env.step(LEFT)["reward"][0] != np.float32(os.getpid())
    with pytest.raises(ConfigError, match="only worker processes"):
        EnvConfig(step_timeout=3.0, parallel=False)


def test_step_of_a_hanging_environment_without_restart_raises() -> None:
    with make_env(EnvConfig(step_timeout=0.5), 0, partial(Unreliable, "hangs", probability=1.0)) as env:
        env.reset(np.array([True]))
        start = time.monotonic()
        with pytest.raises(EnvError, match=r"environment 0 did not answer within 0.5 seconds \(env.step_timeout\)"):
            env.step(LEFT)
    assert time.monotonic() - start < 20

"""Environments that fail are made anew: their episodes end there, truncated, and nobody else's do."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.config import EnvConfig, ReplayConfig
from reverie.envs import as_factory, make_env
from reverie.errors import ConfigError, EnvError
from reverie.replay import ReplayBuffer, ReplayReader
from reverie.training.collection import Collector, RandomPolicy, collect_block
from tests.helpers.environments import Counting, Unreliable
from tests.helpers.stored_episodes import check_stored


def record(path: Path, env: Any, steps: int) -> list[EnvError]:
    """Collect steps into a replay as the trainer does; what has failed."""
    replay = ReplayBuffer(path, env.spec.step, ReplayConfig(capacity=1_000_000, batch_length=4), env.num_envs)
    policy = RandomPolicy(env.spec.action, np.random.default_rng(0))
    collector, done, faults = Collector(env), 0, []
    while done < steps:
        block = collect_block(collector, policy, 16)
        for collected in block.collected:
            for step, rows in collected.steps:
                replay.add(step, rows)
            replay.truncate_episodes(collected.broken_off)
            done += collected.num_steps
            for _, episode in collected.episodes:
                assert (episode.length, episode.return_) == (20, 20.0)
        faults += block.faults
        if block.error is not None:
            raise block.error
    replay.commit()
    return faults


def test_errors_in_this_process(tmp_path: Path) -> None:
    factory = partial(Unreliable, "raises", "exits")
    with make_env(EnvConfig(num_envs=3, parallel=False), 0, factory, supervised=True) as env:
        faults = record(tmp_path / "replay.db", env, 3000)
        early = check_stored(tmp_path / "replay.db", env)
    assert 100 < len(faults) < 200
    assert early > 80
    assert any("the motor is on fire" in str(fault) for fault in faults)
    assert any("SystemExit" in str(fault) for fault in faults)
    assert all("Unreliable" in str(fault) and "episode" in str(fault) for fault in faults)


def test_processes_that_die_hang_and_raise(tmp_path: Path) -> None:
    factory = partial(Unreliable, "raises", "exits", "leaves", "SIGKILL", "SIGSEGV", "hangs", probability=0.003)
    config = EnvConfig(num_envs=2, step_timeout=1.0)
    with make_env(config, 1, factory, supervised=True) as env:
        faults = record(tmp_path / "replay.db", env, 5000)
        early = check_stored(tmp_path / "replay.db", env)
    text = " ".join(map(str, faults))
    assert len(faults) >= 8 and early >= 5
    for words in ("the motor is on fire", "exit status 7", "killed by signal", "did not answer within 1 seconds"):
        assert words in text, text


def test_the_others_are_left_alone_and_seeds_differ(tmp_path: Path) -> None:
    """Without failures nothing changes; with them only the environment that fails begins anew."""
    steady = EnvConfig(num_envs=2, parallel=False)
    episodes = []
    for supervised in (False, True):
        with make_env(steady, 0, partial(Counting, 5), supervised=supervised) as env:
            record_ = Collector(env)
            policy = RandomPolicy(env.spec.action, np.random.default_rng(0))
            episodes.append([record_.collect(policy).steps[-1][0]["vector"].tolist() for _ in range(12)])
    assert episodes[0] == episodes[1]
    with make_env(steady, 0, partial(Unreliable, "raises", probability=0.03), supervised=True) as env:
        record(tmp_path / "replay.db", env, 2000)
        with ReplayReader(tmp_path / "replay.db", env.spec.step) as reader:
            firsts = [next(reader.steps(episode)) for episode in reader.episodes() if episode.env == 0]
    numbers = [steps["vector"][0, 1] for steps in firsts]
    assert len(np.unique(numbers)) == len(numbers)  # no episode is played twice


def test_what_has_never_worked_is_an_error() -> None:
    def build() -> Any:
        raise RuntimeError("no licence")

    with pytest.raises(EnvError, match="no licence"):
        make_env(EnvConfig(), 0, build, supervised=True)

    class Stuck(Counting):
        def reset(self, **_: Any) -> Any:
            raise RuntimeError("no power")

    with make_env(EnvConfig(), 0, Stuck, supervised=True) as env, pytest.raises(EnvError, match="no power"):
        env.reset(np.array([True]))


def test_an_instance_cannot_be_made_anew() -> None:
    _, factory = as_factory(Unreliable("raises", probability=1.0))
    with make_env(EnvConfig(), 0, factory, supervised=True) as env:
        env.reset(np.array([True]))
        with pytest.raises(EnvError, match="the motor is on fire"):
            env.step(np.array([[1, 0]], np.float32))


def test_a_single_environment_with_a_time_limit_lives_in_a_process() -> None:
    class Where(Counting):
        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, float(os.getpid()), *rest

    with make_env(EnvConfig(step_timeout=20.0), 0, Where) as env:
        env.reset(np.array([True]))
        assert env.step(np.array([[1, 0]], np.float32))["reward"][0] != np.float32(os.getpid())
    with pytest.raises(ConfigError, match="only worker processes"):
        EnvConfig(step_timeout=3.0, parallel=False)


def test_a_hanging_environment_is_an_error_without_supervision() -> None:
    with make_env(EnvConfig(step_timeout=0.5), 0, partial(Unreliable, "hangs", probability=1.0)) as env:
        env.reset(np.array([True]))
        start = time.monotonic()
        with pytest.raises(EnvError, match=r"environment 0 did not answer within 0.5 seconds \(env.step_timeout\)"):
            env.step(np.array([[1, 0]], np.float32))
    assert time.monotonic() - start < 20

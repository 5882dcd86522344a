"""Environments that step while the agent learns: what is computed depends on counters, never on who is faster."""

import json
import os
import random
import signal
import threading
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import reverie
from reverie.acting import to_tensors
from reverie.agents import build_agent
from reverie.config import Config, EnvConfig
from reverie.dreamer import ActState, Dreamer
from reverie.envs import make_env
from reverie.errors import ReplayError
from reverie.replay import ReplayBuffer, ReplayReader
from reverie.runs.metrics import read_metrics
from reverie.specs import Step
from reverie.training import background, trainer
from reverie.training.collection import Collector, RandomPolicy, collect_block
from tests.helpers import environments

SETTINGS: dict[str, Any] = {
    "async_collection": "on",
    "steps": 130,
    "prefill": 42,
    "pretrain": 1,
    "train_every": 8,
    "train_steps": 2,
    "eval_every": 60,
    "log_every": 20,
    "video_every": 0,
    "checkpoint_every": 60,
    "env.parallel": False,
}


def train(env: object, logdir: Path, **settings: Any) -> Dreamer:
    return reverie.train(env, preset="debug", logdir=logdir, **{**SETTINGS, **settings})


def everything(logdir: Path, agent: Dreamer) -> tuple[dict[str, Tensor], str]:
    """Weights, and all rows without times."""
    rows = [
        {name: value for name, value in row.items() if not name.startswith(("time", "speed"))}
        for row in read_metrics(logdir)
    ]
    return dict(agent.state_dict()), json.dumps(rows)


def assert_same(one: tuple[dict[str, Tensor], str], other: tuple[dict[str, Tensor], str]) -> None:
    assert one[1] == other[1]
    assert all(torch.equal(value, other[0][name]) for name, value in one[0].items())


class SleepyCatch(environments.Catch):
    """Takes as long as it pleases."""

    def step(self, action: int) -> environments.Result:
        """Step late."""
        time.sleep(random.random() * 0.004)
        return super().step(action)


def slow_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    learn = Dreamer.train_step

    def late(self: Dreamer, batch: Step, **options: bool) -> dict[str, Tensor]:
        time.sleep(random.random() * 0.03)
        return learn(self, batch, **options)

    monkeypatch.setattr(Dreamer, "train_step", late)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_timing_changes_nothing(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"precision": precision}
    expected = everything(tmp_path / "plain", train(environments.Catch, tmp_path / "plain", **settings))
    assert_same(everything(tmp_path / "env", train(SleepyCatch, tmp_path / "env", **settings)), expected)
    slow_learner(monkeypatch)
    assert_same(everything(tmp_path / "learner", train(environments.Catch, tmp_path / "learner", **settings)), expected)


def one_after_the_other(config: Config, folder: Path) -> tuple[dict[str, Tensor], list[np.ndarray]]:
    """The overlapped schedule in one thread, with nothing but whole copies of the agent: weights, and actions.

    Each block first updates, then acts with a copy of the agent from before these updates.
    """
    env_seed, sample_seed, prefill_seed = np.random.SeedSequence((config.training.seed, 0)).spawn(3)
    env = make_env(config.env, int(env_seed.generate_state(1)[0]), environments.Catch)
    agent = build_agent(config, env.spec)
    replay = ReplayBuffer(folder, env.spec.step, config.replay, env.num_envs)
    collector, rng = Collector(env), np.random.default_rng(sample_seed)
    actions: list[np.ndarray] = []
    state: ActState | None = None
    acting = agent

    def decide(step: Step) -> np.ndarray:
        nonlocal state
        action, state = acting.act(to_tensors(step, agent.device), state, generator=agent.act_generator)
        actions.append(action.numpy())
        return actions[-1]

    random_policy = RandomPolicy(env.spec.action, np.random.default_rng(prefill_seed))
    steps = 0
    while steps < config.training.steps:
        prefilling = steps < config.training.prefill
        if steps == config.training.prefill:
            agent.train_step(to_tensors(replay.sample(rng), agent.device))
        acting = deepcopy(agent)
        if not prefilling:
            for _ in range(config.training.train_steps):
                agent.train_step(to_tensors(replay.sample(rng), agent.device))
        count = 1 if prefilling else min(config.training.train_every, config.training.steps - steps)
        for _ in range(count):
            for step, rows in collector.collect(random_policy if prefilling else decide).steps:
                replay.add(step, rows)
            steps += 1
        agent.agent_steps = steps
    replay.close()
    return agent.state_dict(), actions


def test_a_block_has_its_length() -> None:
    with make_env(EnvConfig(name="Catch"), 0, environments.Catch) as env:
        block = collect_block(Collector(env), RandomPolicy(env.spec.action, np.random.default_rng(0)), 7)
    assert len(block.collected) == 7
    assert block.error is None


def test_which_weights_choose_which_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same run in one thread; the learner is slow, so that looking at its weights would show."""
    config = reverie.preset("debug").for_env("Catch").override(**{**SETTINGS, "eval_every": 0})
    weights, actions = one_after_the_other(config, tmp_path / "replay.db")
    slow_learner(monkeypatch)
    run = train(environments.Catch, tmp_path / "run", eval_every=0)
    assert all(torch.equal(value, weights[name]) for name, value in run.state_dict().items())
    with ReplayReader(tmp_path / "run" / "replay.db", run.spec.step) as reader:
        stored = np.concatenate([part["action"] for each in reader.episodes() for part in reader.steps(each)])
    stored = stored[stored.any(-1)]
    np.testing.assert_array_equal(stored[42:], np.concatenate(actions))  # without those of prefill and resets


class Hangs(environments.Catch):
    """Asks twice, from its 60th step, for a run to stop, and never returns from it."""

    count = 0
    released = threading.Event()

    def step(self, action: int) -> environments.Result:
        """Count, and hang."""
        Hangs.count += 1
        if Hangs.count == 60:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)
            Hangs.released.wait(20)
        return super().step(action)


def test_a_second_interrupt_does_not_wait_for_an_environment_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hangs, "count", 0)
    for module in (background, trainer):
        monkeypatch.setattr(module, "PATIENCE", 0.05)
    with pytest.raises(KeyboardInterrupt, match="Stopped at once"):
        train(Hangs, tmp_path, eval_every=0)
    assert not Hangs.released.is_set()
    Hangs.released.set()


def test_updates_and_rows_come_between_blocks(tmp_path: Path) -> None:
    agent = train(environments.Catch, tmp_path)
    assert agent.agent_steps == 130
    # Blocks of 8 steps from 42 on, the last one of 130 - 122 = 8: an update pair at the start of each of the 11.
    assert agent.updates == 1 + 2 * 11
    rows = read_metrics(tmp_path)
    # The first evaluation, at step 42, shares the row of the pretraining.
    assert [row["step"] for row in rows] == [20, 40, 42, 66, 82, 106, 122, 130]
    assert all(row["time/wait"] >= 0 and row["time/collect"] > 0 for row in rows[3:])


def test_a_run_that_is_cut_and_resumed_learns_as_often(tmp_path: Path) -> None:
    train(environments.Catch, tmp_path / "cut", steps=79)
    resumed = train(environments.Catch, tmp_path / "cut", resume=True)
    whole = train(environments.Catch, tmp_path / "whole")
    assert (resumed.agent_steps, resumed.updates) == (whole.agent_steps, whole.updates)


def test_an_error_of_the_learner_comes_first_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments.Breaks, "count", 0)
    learn = Dreamer.train_step

    def fail(self: Dreamer, batch: Step) -> dict[str, Tensor]:
        if self.agent_steps == 98:  # the block in which the environment breaks, too
            raise ReplayError("the disk is gone")
        return learn(self, batch)

    monkeypatch.setattr(Dreamer, "train_step", fail)
    with pytest.raises(ReplayError, match="the disk is gone"):
        train(environments.Breaks, tmp_path, eval_every=0)
    assert reverie.load(tmp_path).agent_steps == 99

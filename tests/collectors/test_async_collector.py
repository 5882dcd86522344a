"""Collection during the updates: one thread for the environments, and results that do not depend on timing."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray
from torch import nn

import reverie
from reverie.acting import to_tensors
from reverie.agents import build_agent
from reverie.collectors import env_thread
from reverie.collectors.async_collector import AsyncCollector
from reverie.collectors.env_thread import EnvThread
from reverie.collectors.random_policy import RandomPolicy
from reverie.collectors.sync_collector import SyncCollector
from reverie.config import Config, EnvConfig
from reverie.dreamer import ActState, Dreamer
from reverie.envs import make_env
from reverie.errors import EnvError, ReplayError
from reverie.replay import ReplayBuffer
from reverie.runs.digest import digest
from reverie.runs.metrics import read_metrics
from reverie.specs import Step
from tests.helpers import environments

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    **{"async_collection": "on", "steps": 130, "prefill": 42, "pretrain": 1, "train_every": 8, "train_steps": 2},
    **{"eval_every": 60, "log_every": 20, "video_every": 0, "checkpoint_every": 60, "env.parallel": False},
}


def train(env: object, logdir: Path, **settings: Any) -> Dreamer:
    return reverie.train(env, preset="debug", logdir=logdir, **{**SETTINGS, **settings})


# The thread


@pytest.fixture
def thread() -> Iterator[EnvThread]:
    thread = EnvThread(CPU)
    yield thread
    thread.close()


def test_env_thread_calls_functions_in_order_in_one_thread(thread: EnvThread) -> None:
    done: list[int] = []
    futures = [thread.submit(lambda i=i: (done.append(i), threading.current_thread())[1]) for i in range(20)]
    threads = {future.result() for future in futures}
    assert done == list(range(20))
    assert len(threads) == 1
    assert threads != {threading.current_thread()}


def test_env_thread_error_arrives_and_later_calls_work(thread: EnvThread) -> None:
    def fail() -> None:
        raise SystemExit("an environment that calls exit()")

    with pytest.raises(SystemExit, match="calls exit"):
        thread.submit(fail).result()
    assert thread.submit(lambda: 3).result() == 3


def test_env_thread_computes_with_one_cpu_thread_and_others_with_as_many_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    env_thread = EnvThread(CPU)
    later: list[int] = []
    try:
        assert env_thread.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    finally:
        torch.set_num_threads(before)
        env_thread.close()


def test_env_thread_autocast_leaves_converted_weights_of_the_learner(thread: EnvThread) -> None:
    """Under autocast two uses of a weight share one conversion, whatever happens in the thread between them.

    If not, their gradients would be summed in another precision, depending on when a decision was made.
    """

    def decide() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            torch.ones(2, 2) @ torch.ones(2, 2)

    def conversions(out: torch.Tensor) -> set[object]:
        found, nodes = set(), [out.grad_fn]
        while nodes:
            node = nodes.pop()
            found |= {node} if node is not None and "ToCopy" in node.name() else set()
            nodes += [parent for parent, _ in node.next_functions] if node is not None else []
        return found

    layer = nn.Linear(2, 2, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        first = layer(torch.ones(1, 2))
        thread.submit(decide).result()
        second = layer(torch.ones(1, 2))
    assert len(conversions(first)) == 1
    assert conversions(first) == conversions(second)


def test_env_thread_close_leaves_a_call_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env_thread, "CLOSE_TIMEOUT", 0.05)
    thread, released = EnvThread(CPU), threading.Event()
    future = thread.submit(released.wait)
    thread.close()
    assert not future.done()
    released.set()
    assert future.result()


# The collector


def collector_of(env: type, block: int, num_envs: int = 1) -> AsyncCollector:
    config = EnvConfig(name="Catch", num_envs=num_envs, parallel=False)
    return AsyncCollector(partial(make_env, config, 0, env), block * num_envs, CPU)


def test_async_collector_of_a_vector_environment_divides_the_block_by_its_environments() -> None:
    collector = AsyncCollector(
        partial(make_env, EnvConfig(), 0, lambda: SyncVectorEnv([environments.Catch] * 4)), 8, CPU
    )
    try:
        policy = RandomPolicy(collector.spec.action, np.random.default_rng(0))
        collector.step(policy, max_steps=100)
        assert [transition.num_steps for transition in collector.flush()] == [4, 4]
    finally:
        collector.close()


def test_async_collector_returns_whole_blocks_up_to_the_bound() -> None:
    collector = collector_of(environments.Catch, block=7, num_envs=2)
    try:
        policy = RandomPolicy(collector.spec.action, np.random.default_rng(0))
        assert collector.step(policy, max_steps=100) == []
        assert sum(transition.num_steps for transition in collector.flush()) == 14
        collector.step(policy, max_steps=5)  # 3 in each of the two environments
        assert sum(transition.num_steps for transition in collector.flush()) == 6
        assert collector.flush() == []
    finally:
        collector.close()


def test_async_collector_takes_the_steps_of_a_sync_collector() -> None:
    async_steps: list[Any] = []
    collector = collector_of(environments.Catch, block=5)
    policy = RandomPolicy(collector.spec.action, np.random.default_rng(0))
    for _ in range(3):
        collector.step(policy, max_steps=100)
        async_steps += [step for found in collector.flush() for step, _ in found.steps]
    collector.close()
    with make_env(EnvConfig(name="Catch", parallel=False), 0, environments.Catch) as env:
        sync, policy = SyncCollector(env), RandomPolicy(env.spec.action, np.random.default_rng(0))
        sync_steps = [step for _ in range(15) for step, _ in sync.step(policy)[0].steps]
    assert len(async_steps) == len(sync_steps) == 16  # with that of the reset
    for found, expected in zip(async_steps, sync_steps, strict=True):
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value)


def test_async_collector_error_comes_after_the_steps_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments.Breaks, "count", 90)
    collector = collector_of(environments.Breaks, block=20)
    try:
        policy = RandomPolicy(collector.spec.action, np.random.default_rng(0))
        collector.step(policy, max_steps=100)
        assert len(collector.flush()) == 9
        with pytest.raises(EnvError, match="a wire came loose"):
            collector.step(policy, max_steps=100)
        assert collector.state() is None
    finally:
        collector.close()


# Whole runs


class SleepyCatch(environments.Catch):
    """Takes as long as it pleases."""

    def step(self, action: int) -> environments.Result:
        """Step late."""
        time.sleep(random.random() * 0.004)
        return super().step(action)


SleepyCatch.__qualname__ = environments.Catch.__qualname__  # A run's environment is named by it.


def slow_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    learn = Dreamer.train_step

    def late(self: Dreamer, batch: Step, **options: bool) -> Any:
        time.sleep(random.random() * 0.03)
        return learn(self, batch, **options)

    monkeypatch.setattr(Dreamer, "train_step", late)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_async_run_with_other_timing_has_the_same_digest(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(environments.Catch, tmp_path / "plain", precision=precision)
    train(SleepyCatch, tmp_path / "env", precision=precision)
    slow_learner(monkeypatch)
    train(environments.Catch, tmp_path / "learner", precision=precision)
    expected = digest(tmp_path / "plain")
    assert digest(tmp_path / "env") == expected
    assert digest(tmp_path / "learner") == expected


def one_after_the_other(config: Config, path: Path) -> tuple[dict[str, torch.Tensor], list[NDArray[Any]]]:
    """Return weights and actions of the same schedule in one thread, with nothing but whole copies of the agent.

    Each block first updates, then acts with a copy of the agent from before these updates.
    """
    env_seed, sample_seed, prefill_seed = np.random.SeedSequence((config.training.seed, 0)).spawn(3)
    env = make_env(config.env, int(env_seed.generate_state(1)[0]), environments.Catch)
    agent = build_agent(config, env.spec)
    replay = ReplayBuffer(path, env.spec.step, config.replay, env.num_envs)
    collector, rng = SyncCollector(env), np.random.default_rng(sample_seed)
    actions: list[NDArray[Any]] = []
    state: ActState | None = None
    acting = agent

    def decide(step: Step, /) -> NDArray[np.float32]:
        nonlocal state
        action, state = acting.act(to_tensors(step, agent.device), state, generator=agent.act_generator)
        actions.append(action.numpy())
        return actions[-1]

    random_policy = RandomPolicy(env.spec.action, np.random.default_rng(prefill_seed))
    steps = 0
    while steps < config.training.steps:
        is_prefill = steps < config.training.prefill
        if steps == config.training.prefill:
            agent.train_step(to_tensors(replay.sample(rng), agent.device))
        acting = deepcopy(agent)
        if not is_prefill:
            for _ in range(config.training.train_steps):
                agent.train_step(to_tensors(replay.sample(rng), agent.device))
        count = 1 if is_prefill else min(config.training.train_every, config.training.steps - steps)
        for _ in range(count):
            for step, mask in collector.step(random_policy if is_prefill else decide)[0].steps:
                replay.add(step, mask)
            steps += 1
        agent.agent_steps = steps
    replay.close()
    return agent.state_dict(), actions


def test_async_run_acts_with_the_weights_from_before_the_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with the same schedule in one thread; the learner is slow, so that use of its weights would show."""
    config = reverie.preset("debug").for_env("Catch").override(**{**SETTINGS, "eval_every": 0})
    weights, actions = one_after_the_other(config, tmp_path / "replay.db")
    slow_learner(monkeypatch)
    taken: list[NDArray[Any]] = []

    class Watch(reverie.Callback):
        def on_step(self, counters: Any, transitions: Any) -> None:
            taken.extend(transition.steps[-1][0]["action"] for transition in transitions)

    run = train(environments.Catch, tmp_path / "run", eval_every=0, callbacks=[Watch()])
    assert all(torch.equal(value, weights[name]) for name, value in run.state_dict().items())
    np.testing.assert_array_equal(np.concatenate(taken[42:]), np.concatenate(actions))


class Hangs(environments.Catch):
    """Sends two signals to stop the run at its 60th step, and never returns from it."""

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


def test_async_run_second_interrupt_does_not_wait_for_an_environment_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hangs, "count", 0)
    monkeypatch.setattr(env_thread, "CLOSE_TIMEOUT", 0.05)
    with pytest.raises(KeyboardInterrupt, match="Stopped at once"):
        train(Hangs, tmp_path, eval_every=0)
    assert not Hangs.released.is_set()
    Hangs.released.set()


def test_async_run_updates_and_rows_come_between_blocks(tmp_path: Path) -> None:
    agent = train(environments.Catch, tmp_path)
    assert agent.agent_steps == 130
    # Blocks of 8 steps from 42 on, the last one of 130 - 122 = 8: an update pair at the start of each of the 11.
    assert agent.updates == 1 + 2 * 11
    rows = read_metrics(tmp_path)
    # The first evaluation, at step 42, shares the row of the pretraining.
    assert [row["step"] for row in rows] == [24, 40, 42, 66, 82, 106, 122, 130]
    assert all(row["time/wait"] >= 0 and row["time/collect"] > 0 for row in rows[3:])


def test_async_run_cut_and_resumed_learns_as_often(tmp_path: Path) -> None:
    train(environments.Catch, tmp_path / "cut", steps=79)
    resumed = train(environments.Catch, tmp_path / "cut", resume=True)
    whole = train(environments.Catch, tmp_path / "whole")
    assert (resumed.agent_steps, resumed.updates) == (whole.agent_steps, whole.updates)


def test_async_run_error_of_the_learner_comes_first_and_no_step_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments.Breaks, "count", 0)
    learn = Dreamer.train_step

    def fail(self: Dreamer, batch: Step) -> Any:
        if self.agent_steps == 98:  # the block in which the environment breaks, too
            raise ReplayError("the disk is gone")
        return learn(self, batch)

    monkeypatch.setattr(Dreamer, "train_step", fail)
    with pytest.raises(ReplayError, match="the disk is gone"):
        train(environments.Breaks, tmp_path, eval_every=0)
    assert reverie.load(tmp_path).agent_steps == 99

"""Collectors in the processes of Ray clusters that run on this machine."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import reverie
from reverie import agents
from reverie.acting import AgentPolicy
from reverie.collectors.collector import Transition
from reverie.collectors.sync_collector import SyncCollector
from reverie.config import Config, ConfigError, EnvConfig, preset
from reverie.dreamer import Dreamer
from reverie.envs import InstanceFactory, make_env
from reverie.envs.atari import Atari
from reverie.errors import EnvError
from reverie.replay import ReplayReader
from reverie.runs.digest import digest
from reverie.runs.metrics import read_metrics
from reverie.training.stop_signal import Interrupted
from tests.helpers import environments
from tests.helpers.stored_episodes import check_stored

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'reverie[ray]'")

from reverie.scaling.cluster import connect  # noqa: E402
from reverie.scaling.ray_collector import RayCollector  # noqa: E402
from reverie.scaling.remote_collector import RemoteCollector  # noqa: E402

RUN: dict[str, Any] = {
    **{"collect": "ray", "collectors": 2, "ray.segment_length": 4, "ray.cpus": 0.5, "env.num_envs": 2},
    **{"env.time_limit": 20, "threads": 1, "steps": 160, "prefill": 40, "pretrain": 2, "train_every": 8},
    **{"eval_every": 0, "log_every": 12, "video_every": 0, "checkpoint_every": 50, "precision": "fp32"},
}


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    connect("local", cpus=4)
    yield
    ray.shutdown()


class Slow(environments.Catch):
    """In the first process that creates one, its 14th step waits for a file, at most five seconds."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.taken = folder, 0
        with suppress(FileExistsError), (folder / "slow").open("x") as file:
            file.write(str(os.getpid()))
        self.is_slow = (folder / "slow").read_text() == str(os.getpid())

    def step(self, action: int) -> environments.Result:
        self.taken += 1
        deadline = time.monotonic() + 5
        while self.is_slow and self.taken == 14 and not (self.folder / "enough").exists():
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        return super().step(action)


def boxing() -> Atari:
    return Atari("boxing", EnvConfig(action_repeat=4, noop_max=3))


def train(env: Callable[[], Any], logdir: Path, resume: bool = False, **settings: Any) -> Dreamer:
    return reverie.train(env, "debug", logdir=logdir, resume=resume, **{**RUN, **settings})


def config(**settings: Any) -> Config:
    return preset("debug").override(**{**RUN, **settings})


def collected(collector: RayCollector, policy: Any, max_steps: int) -> list[Transition]:
    collector.step(policy, max_steps)
    return collector.flush()


@pytest.mark.parametrize("env", [environments.Catch, boxing], ids=["replayed", "restored"])
def test_fixed_schedule_interrupted_and_resumed_has_the_digest_of_the_whole(
    env: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(env, tmp_path / "whole")
    flush, calls = RayCollector.flush, Counter[str]()

    def flush_and_stop(self: RayCollector) -> list[Transition]:
        calls["flush"] += 1
        if calls["flush"] in (2, 8):  # in the prefill, and in training
            os.kill(os.getpid(), signal.SIGTERM)
        return flush(self)

    monkeypatch.setattr(RayCollector, "flush", flush_and_stop)
    for resume in (False, True):
        with pytest.raises(Interrupted):
            train(env, tmp_path / "cut", resume)
    train(env, tmp_path / "cut", resume=True)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")
    assert "could not be restored" not in capsys.readouterr().out


def test_fixed_schedule_with_another_seed_differs(tmp_path: Path) -> None:
    for seed in (0, 1):
        train(environments.Catch, tmp_path / str(seed), seed=seed)
    first, second = (digest(tmp_path / str(seed)) for seed in (0, 1))
    assert all(first[part] != second[part] for part in ("replay", "weights", "metrics"))


def test_run_goes_on_without_ray_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint has no trace of where its steps were taken."""
    train(environments.Catch, tmp_path, steps=80)
    train(environments.Catch, tmp_path, resume=True, steps=120, collect="local", collectors=1, **{"env.num_envs": 4})
    agent = train(environments.Catch, tmp_path, resume=True)
    assert agent.agent_steps == 160
    assert "could not be restored" not in capsys.readouterr().out


def episodes_of(folder: Path, agent: Dreamer) -> list[int]:
    """Check the stored episodes of `Unreliable`, and return how many steps each has after its first."""
    check_stored(folder / "replay.db", agent)
    with ReplayReader(folder / "replay.db", agent.spec.step) as reader:
        episodes = reader.episodes()
        numbers = [next(reader.steps(episode))["vector"][0, 1] for episode in episodes]
    assert len(set(numbers)) == len(numbers)
    return [episode.length - 1 for episode in episodes]


@pytest.mark.parametrize("schedule", ["fixed", "free"])
def test_killed_collectors_are_replaced_and_no_step_is_stored_twice_or_lost(schedule: str, tmp_path: Path) -> None:
    """Each environment kills its process with a probability at each step; each episode has a number of its own."""
    agent = train(
        partial(environments.Unreliable, "SIGKILL", probability=0.01),
        tmp_path,
        **{"ray.schedule": schedule, "env.max_restarts_per_hour": 100, "steps": 300, "env.time_limit": 0},
    )
    *_, row = read_metrics(tmp_path)
    assert row["env/restarts"] >= 2
    assert sum(episodes_of(tmp_path, agent)) == agent.agent_steps == row["step"] >= 300


def test_more_killed_collectors_than_allowed_end_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    env = partial(environments.Unreliable, "SIGKILL", probability=0.01)
    with pytest.raises(EnvError, match=r"Collector \d of 0 to 1 is gone .*env.max_restarts_per_hour is 1"):
        train(env, tmp_path, **{"env.max_restarts_per_hour": 1, "steps": 100_000, "env.time_limit": 0})
    agent = reverie.load(tmp_path)
    assert agent.agent_steps == sum(episodes_of(tmp_path, agent)) > 0


@pytest.mark.parametrize(("limit", "is_exceeded"), [(17, False), (1000, True)])
def test_free_schedule_keeps_the_policy_lag(limit: int, is_exceeded: bool, tmp_path: Path) -> None:
    """One collector waits until 45 updates have been made. With the limit the learner waits for it, and it gives up."""
    settings = {"ray.schedule": "free", "ray.weights_every": 2, "ray.max_policy_lag": limit, "train_every": 1}
    lags: list[int] = []

    class Watch(reverie.Callback):
        def on_update(self, counters: Any, metrics: object) -> None:
            if counters.updates == 45:
                (tmp_path / "enough").touch()

        def on_step(self, counters: Any, transitions: list[Transition]) -> None:
            lags.extend(each.policy_lag for each in transitions if each.policy_lag is not None)

    train(partial(Slow, tmp_path), tmp_path / "run", callbacks=[Watch()], **settings)
    assert (tmp_path / "enough").exists()
    assert len(set(lags)) > 2
    assert (max(lags) > 17) is is_exceeded


def test_environment_error_ends_the_run_with_its_sentence_and_the_steps_before_it(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="a wire came loose"):
        train(environments.Breaks, tmp_path, **{"env.max_restarts_per_hour": 0, "steps": 100_000})
    assert reverie.load(tmp_path).agent_steps > 100


def test_environments_that_cannot_be_created_are_refused(tmp_path: Path) -> None:
    def fail() -> Any:
        raise ValueError("no display")

    with pytest.raises(EnvError, match="no display"):
        train(fail, tmp_path)
    assert not list(tmp_path.iterdir())


def test_environments_are_closed_at_the_end(tmp_path: Path) -> None:
    class Closed(environments.Catch):
        def close(self) -> None:
            (tmp_path / f"{os.getpid()}-{id(self)}").touch()

    collector = RayCollector(config(), 0, Closed)
    assert not list(tmp_path.iterdir())
    collector.close()
    assert len(list(tmp_path.iterdir())) == 4


def test_one_instance_is_refused() -> None:
    with pytest.raises(EnvError, match=r"one instance of Catch was passed.*Pass a function"):
        RayCollector(config(), 0, InstanceFactory(environments.Catch()))


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"collectors is 2, but only training.collect=ray"):
        config(collect="local")
    # 2 collectors, 2 environments, 4 steps: 16 steps, an update for each, and weights of up to 9 updates before
    with pytest.raises(ConfigError, match=r"max_policy_lag is 24.*Raise it to 25"):
        config(**{"train_every": 1, "ray.max_policy_lag": 24})
    config(**{"train_every": 1, "ray.max_policy_lag": 25})


def test_segment_has_the_steps_of_a_sync_collector_with_the_same_weights_and_seed() -> None:
    """The collector itself, without Ray: bfloat16 weights are those of the agent, rounded."""
    settings = config(collectors=1, **{"ray.weights_precision": "bf16"})
    remote = RemoteCollector(settings, 3, environments.Catch)
    spec = remote.describe().spec
    agent = agents.build_agent(settings, spec, seed=5)
    weights = {name: tensor.numpy() for name, tensor in agent.recurrent_policy.state_dict().items()}
    segment = remote.collect(6, weights, 0, 11, {})

    sync = SyncCollector(make_env(settings.env, 3, environments.Catch))
    policy = AgentPolicy(agent, generator=torch.Generator().manual_seed(11))
    for found in segment.transitions:
        (expected,) = sync.step(policy)
        for (step, mask), (own, own_mask) in zip(found.steps, expected.steps, strict=True):
            assert (mask == own_mask).all()
            assert all((step[key] == own[key]).all() for key in step)
    assert policy.state is not None
    assert (segment.act_state["deter"] == policy.state.latent.deter.numpy()).all()


def test_cluster_leaves_the_handlers_of_signals_as_they_were() -> None:
    ray.shutdown()
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    connect("local", cpus=4)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_cluster_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    ray.shutdown()
    with pytest.raises(ConfigError, match=r"No Ray cluster answers at 127.0.0.1:1"):
        train(environments.Catch, tmp_path, **{"ray.address": "127.0.0.1:1"})

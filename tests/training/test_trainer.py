"""Whole runs, tiny: they repeat, resume, stop, and keep their ratios."""

import json
import os
import re
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import reverie
import reverie.errors
from reverie.acting import AgentPolicy
from reverie.collectors.collector import Episode
from reverie.errors import CheckpointError, EnvError, ReplayError, RunError
from reverie.runs.metrics import read_metrics, read_rows
from reverie.training.evaluation import evaluate
from reverie.training.stop_signal import Interrupted
from tests.helpers import environments

TINY = {
    "env.parallel": False,
    "steps": 120,
    "prefill": 40,
    "eval_every": 60,
    "log_every": 20,
    "video_every": 60,
    "checkpoint_every": 60,
    "train_every": 8,
}


SMALL = {
    "replay.sampling": "steps",
    "replay.batch_size": 2,
    "replay.batch_length": 4,
    "behavior.horizon": 2,
    "world_model.rssm.deter": 8,
    "world_model.rssm.hidden": 8,
    "world_model.encoder.cnn_depth": 2,
    "world_model.decoder.cnn_depth": 2,
}
"""What makes any preset tiny."""

BOTH = pytest.mark.parametrize("collection", ["off", "on"])
"""Ways of collecting."""

EXPECTED = {
    *(f"model/{name}_loss" for name in ("image", "reward", "discount", "kl")),
    *(f"model/{name}" for name in ("kl", "prior_entropy", "posterior_entropy", "gradient_norm")),
    *(f"actor/{name}" for name in ("loss", "entropy", "gradient_norm")),
    *(f"critic/{name}" for name in ("loss", "value", "gradient_norm")),
    *(f"imagination/{name}" for name in ("return_mean", "return_std")),
    *(f"episode/{name}" for name in ("return", "length")),
    *("eval/return", "perf/fps", "perf/updates_per_second", "time/learn", "time/collect"),
}
"""Metrics that every run on images writes."""


def train(env: object, logdir: Path, **settings: object) -> reverie.Dreamer:
    return reverie.train(env, preset="debug", logdir=logdir, **{**TINY, **settings})


def weights(agent: reverie.Dreamer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in agent.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def learned(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    timed = ("time", "perf")
    return [{k: v for k, v in row.items() if not k.startswith(timed)} for row in rows]


@pytest.mark.parametrize("env", [environments.Catch, "CartPole-v1", "Pendulum-v1"])
def test_train_same_seed_is_the_same_run(env: object, tmp_path: Path) -> None:
    first, again, other = (
        train(env, tmp_path / name, seed=seed) for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))
    rows = [learned(read_metrics(tmp_path / name)) for name in ("first", "again")]
    assert json.dumps(rows[0]) == json.dumps(rows[1])


@BOTH
def test_train_worker_processes_change_nothing(collection: str, tmp_path: Path) -> None:
    settings = {"env.num_envs": 2, "async_collection": collection}
    inline = train("CartPole-v1", tmp_path / "inline", **settings)
    workers = train("CartPole-v1", tmp_path / "workers", **settings, **{"env.parallel": True})
    assert same(weights(inline), weights(workers))


@BOTH
@pytest.mark.parametrize("envs", [1, 2, 5])
def test_train_ratio_of_updates_to_steps_holds(envs: int, collection: str, tmp_path: Path) -> None:
    settings = {"env.num_envs": envs, "pretrain": 3, "prefill": 60, "steps": 200, "async_collection": collection}
    agent = train("CartPole-v1", tmp_path, **settings)
    after_prefill = (200 - 60) / 8
    assert agent.agent_steps == 200
    assert abs(agent.updates - 3 - after_prefill) <= 1


def test_train_run_folder_has_rows_videos_and_checkpoints(tmp_path: Path) -> None:
    agent = train(environments.Catch, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.toml", "metrics.jsonl", "tensorboard", "checkpoints", "replay.db", "videos"} <= names
    assert (tmp_path / "videos" / "dream-000000060.gif").stat().st_size > 0
    rows = read_metrics(tmp_path)
    # After both updates of the pretraining there is one more row: as many updates to a row as there are in 20 steps.
    assert [row["step"] for row in rows] == [20, 40, 40, 60, 80, 100, 120]
    last = {key for row in rows for key in row}
    assert last >= EXPECTED
    loaded = reverie.load(tmp_path)
    assert same(weights(agent), weights(loaded))
    assert loaded.updates == agent.updates


@pytest.mark.parametrize(("eval_every", "log_every", "steps"), [(20, 20, 120), (30, 40, 110), (25, 10, 100)])
def test_train_evaluation_is_in_the_row_of_its_step_with_every_return(
    eval_every: int, log_every: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[tuple[int, tuple[float, ...]]] = []

    def noting(agent: reverie.Dreamer, *arguments: Any) -> list[Episode]:
        episodes = evaluate(agent, *arguments)
        played.append((agent.agent_steps, tuple(episode.return_ for episode in episodes)))
        return episodes

    monkeypatch.setattr("reverie.training.evaluation.evaluate", noting)
    settings = {"eval_every": eval_every, "log_every": log_every, "steps": steps, "eval_episodes": 3}
    train("CartPole-v1", tmp_path, **{**SMALL, **settings})
    assert [step for step, _ in played] == sorted({*range(40, steps, eval_every), steps})
    rows = {row["step"]: row["eval/return"] for row in read_metrics(tmp_path) if "eval/return" in row}
    assert rows == pytest.approx({step: np.mean(returns) for step, returns in played})
    rows_of_returns = [row for row in read_rows(tmp_path) if "eval/returns" in row]
    assert [(row["step"], tuple(row["eval/returns"])) for row in rows_of_returns] == played
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {event.step: event.value for event in board.Scalars("eval/return")} == pytest.approx(rows)


def test_train_rows_are_unique_by_step_and_updates(tmp_path: Path) -> None:
    train("CartPole-v1", tmp_path, **SMALL, eval_every=30, log_every=20, pretrain=7)
    counts = [(row["step"], row["updates"]) for row in read_metrics(tmp_path)]
    assert counts == sorted(set(counts))


def test_train_resumed_run_continues_steps_updates_and_rows(tmp_path: Path) -> None:
    first = train(environments.Catch, tmp_path)
    second = train(environments.Catch, tmp_path, resume=True, steps=240)
    assert second.agent_steps == 240
    assert second.updates == first.updates + 15
    assert float(second.model_optimizer.num_steps) == second.updates
    steps = [row["step"] for row in read_metrics(tmp_path)]
    assert steps == sorted(steps)
    assert steps[-1] == 240


def test_train_resume_of_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first = train("CartPole-v1", tmp_path)
    again = train("CartPole-v1", tmp_path, resume=True)
    assert same(weights(first), weights(again))


def test_save_loaded_agent_takes_the_same_actions(tmp_path: Path) -> None:
    agent = train(environments.Catch, tmp_path / "run")
    reverie.save(agent, tmp_path / "agent")
    obs = {"image": np.random.default_rng(0).integers(0, 255, (2, 64, 64, 1), dtype=np.uint8)}
    loaded = reverie.load(tmp_path / "agent")
    for which in (agent, loaded):
        which.act_generator.manual_seed(0)
    policy, loaded_policy = AgentPolicy(agent), AgentPolicy(loaded)
    for _ in range(2):
        np.testing.assert_array_equal(policy(obs), loaded_policy(obs))


def test_evaluating_twice_gives_the_same(tmp_path: Path) -> None:
    train("CartPole-v1", tmp_path)
    first, again = (reverie.evaluate(tmp_path, episodes=3).to_json() for _ in range(2))
    assert first == again
    assert len(first["episodes"]) == 3
    returns = [episode["return"] for episode in first["episodes"]]
    assert first["mean"] == np.mean(returns)
    assert first["std"] == pytest.approx(statistics.stdev(returns))


class Stops(environments.Catch):
    """Sends a signal to this process at its 70th step."""

    kind = signal.SIGINT
    count = 0

    def step(self, action: int) -> environments.Result:
        """Send it, once."""
        Stops.count += 1
        if Stops.count == 70:
            os.kill(os.getpid(), Stops.kind)
        return super().step(action)


@BOTH
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_train_interrupted_saves_and_resumes(
    kind: signal.Signals, collection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stops, "kind", kind)
    monkeypatch.setattr(Stops, "count", 0)
    settings = {"async_collection": collection, "eval_every": 0}
    with pytest.raises(Interrupted, match=r"Stopped at step \d+ and saved .*\. Continue with resume=True") as caught:
        train(Stops, tmp_path, steps=1_000_000, **settings)
    assert caught.value.signal == kind
    stopped = reverie.load(tmp_path).agent_steps
    # With asynchronous collection, the block in which the signal came is collected to its end.
    assert stopped == (72 if collection == "on" else 70)
    resumed = train(Stops, tmp_path, resume=True, steps=86, **settings)
    assert resumed.agent_steps == 86


PRETRAINED = {
    **{"steps": 60, "prefill": 40, "train_every": 4, "log_every": 20, "checkpoint_every": 40, "eval_every": 0},
    **{"pretrain_world_model": 23, "pretrain": 4, "env.parallel": False},
}
"""Rows of metrics after five updates of the pretraining, checkpoints after ten."""


def test_train_pretraining_of_the_world_model_has_rows_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(environments.Catch, tmp_path, **PRETRAINED)
    rows = [row for row in read_metrics(tmp_path) if row["step"] == 40]
    assert [row["updates"] for row in rows] == [0, 5, 10, 15, 20, 25, 27]
    assert ["actor/loss" in row for row in rows] == [False, False, False, False, False, True, True]
    assert all("model/kl" in row for row in rows[1:])
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("pretraining/model/kl")] == [5, 10, 15, 20, 25]
    assert [event.step for event in board.Scalars("model/kl")] == [40, 60]
    training = json.loads((sorted((tmp_path / "checkpoints").glob("step-*"))[-1] / "state.json").read_text())[
        "training"
    ]
    assert training["counters"]["pretraining_updates"] == 27


def test_train_episodes_that_are_too_short_are_reported_after_ten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The prefill alone has 50 of them; the message comes at 10, and the error when it is over."""
    settings = {"prefill": 250, "steps": 400, "replay.sampling": "episodes", "env.action_repeat": 2}
    with pytest.raises(ReplayError, match=r"all of the 50 finished episodes.* longest has 6 \(10 frames at env"):
        reverie.train(lambda: environments.Counting(10), "debug", logdir=tmp_path, **settings, **{"env.time_limit": 0})
    text = " ".join(capsys.readouterr().out.split())
    found = re.findall(r"Learning cannot begin yet: replay.batch_length=10 is too long for all of the (\d+) ", text)
    assert len(found) == 1 and 10 <= int(found[0]) < 20
    assert "the longest has 6 (10 frames at env.action_repeat=2)" in text


@pytest.mark.parametrize("at", [12, 26])
def test_train_interrupted_pretraining_continues_where_it_was(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The updates are the same as without the interruption, and no row of metrics is written twice."""
    train(environments.Catch, tmp_path / "whole", **PRETRAINED)
    calls = 0

    def stop_after(learn: Callable[..., object]) -> Callable[..., object]:
        def learn_and_stop(agent: reverie.Dreamer, batch: object) -> object:
            nonlocal calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGINT)
            return learn(agent, batch)

        return learn_and_stop

    with monkeypatch.context() as patch:
        for name in ("train_world_model", "train_step"):
            patch.setattr(reverie.Dreamer, name, stop_after(getattr(reverie.Dreamer, name)))
        with pytest.raises(Interrupted):
            train(environments.Catch, tmp_path / "parts", **PRETRAINED)
    assert calls == at
    train(environments.Catch, tmp_path / "parts", resume=True, **PRETRAINED)
    whole, parts = (
        [row for row in learned(read_metrics(tmp_path / name)) if row["step"] == 40] for name in ("whole", "parts")
    )
    assert [row["updates"] for row in parts] == [0, 5, 10, 15, 20, 25, 27]
    assert parts == whole


def test_train_used_folder_is_refused(tmp_path: Path) -> None:
    train("CartPole-v1", tmp_path)
    with pytest.raises(RunError, match="--resume"):
        train("CartPole-v1", tmp_path)


def test_train_batch_longer_than_any_episode_is_refused(tmp_path: Path) -> None:
    # Random actions never balance the pole for 200 steps.
    settings = {"replay.sampling": "episodes", "replay.batch_length": 200, "env.time_limit": 0}
    settings |= {"prefill": 210, "steps": 300}
    with pytest.raises(ReplayError, match=r"batch_length"):
        train("CartPole-v1", tmp_path, **settings)


@BOTH
def test_train_broken_environment_loses_no_step(collection: str, tmp_path: Path) -> None:
    environments.Breaks.count = 0
    with pytest.raises(EnvError, match="a wire came loose"):
        train(environments.Breaks, tmp_path, eval_every=0, async_collection=collection)
    saved = reverie.load(tmp_path)
    assert saved.agent_steps == 99
    assert saved.updates > 0


def test_load_damaged_checkpoint_names_the_previous_one(tmp_path: Path) -> None:
    train("CartPole-v1", tmp_path)
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    file = newest / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"--resume then continues from step-"):
        reverie.load(tmp_path)


def test_train_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises((RunError, EnvError), match=r"not finite|diverged"):
        train("CartPole-v1", tmp_path, **{"world_model.optimizer.lr": 1e30, "eval_every": 0})


def test_train_takes_an_instance(tmp_path: Path) -> None:
    env = environments.Catch(balls=2)
    agent = reverie.train(env, logdir=tmp_path, **{**TINY, **SMALL})
    assert agent.agent_steps == TINY["steps"]


def test_train_resume_without_a_preset_keeps_the_settings(tmp_path: Path) -> None:
    first = train("CartPole-v1", tmp_path)
    second = reverie.train("CartPole-v1", logdir=tmp_path, resume=True, steps=160)
    assert second.config == first.config.override(steps=160)


def test_train_on_an_absent_cuda_device_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        return
    with pytest.raises(reverie.errors.ConfigError, match="no CUDA device"):
        train("CartPole-v1", tmp_path, device="cuda")


def test_train_rows_of_pretraining_differ_in_updates_and_not_in_step(tmp_path: Path) -> None:
    train("CartPole-v1", tmp_path, pretrain_world_model=8, pretrain=4, log_every=20, train_every=10, eval_every=0)
    rows = read_metrics(tmp_path)
    places = [(row["step"], row["updates"]) for row in rows]
    assert places == sorted(set(places))
    assert len({step for step, _ in places}) < len(places)

"""Learning from recorded episodes: what is learned from, what is held out, and how such a run is continued."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reverie
from reverie.agents import build_agent
from reverie.cli.main import main
from reverie.data import Episode, open_recording
from reverie.errors import ConfigError, DataError
from reverie.replay import ReplayBuffer
from reverie.runs.digest import digest
from reverie.runs.metrics import read_metrics
from reverie.specs import EnvSpec
from reverie.training.offline import validate
from reverie.training.stop_signal import Interrupted
from tests.helpers.agents import CONTINUOUS, DICT, random_steps, tensors, tiny

SETTINGS: dict[str, Any] = {
    "threads": 1, "precision": "fp32", "pretrain": 1, "train_every": 4, "log_every": 8, "checkpoint_every": 16,
    "video_every": 0, "loggers": [], "quiet": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CartPole that has collected episodes."""
    folder = tmp_path_factory.mktemp("data") / "run"
    settings = {**SETTINGS, "eval_every": 0, "steps": 400, "prefill": 400}
    reverie.train("CartPole-v1", "debug", logdir=folder, seed=3, **settings)
    return folder


def offline(folder: Path, data: Path, **settings: Any) -> reverie.Dreamer:
    changes = {**SETTINGS, "steps": 40, "eval_every": 16, **settings}
    return reverie.train(changes.pop("env", None), "debug", logdir=folder, offline=data, **changes)


class InterruptAt(reverie.Callback):
    """Sends SIGTERM at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, counters: Any, transitions: Any) -> None:
        if counters.steps == self.step:
            signal.raise_signal(signal.SIGTERM)


def episodes(path: Path) -> list[Episode]:
    with ReplayBuffer(path) as replay:
        return list(replay.episodes())


def same(one: Episode, other: Episode) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_offline_run_learns_from_the_recorded_episodes_but_those_that_are_held_out(data: Path, tmp_path: Path) -> None:
    agent = offline(tmp_path / "run", data, **{"training.validation_share": 0.25})
    recorded = list(open_recording(data))
    kept, held_out = episodes(tmp_path / "run" / "replay.db"), episodes(tmp_path / "run" / "validation.db")
    assert len(held_out) == len(recorded) // 4 >= 2
    for number, episode in enumerate(recorded, 1):
        others = held_out if number % 4 == 0 else kept
        assert same(episode, others.pop(0))
    assert not kept and not held_out
    assert agent.agent_steps == 40 and agent.updates == 1 + 10
    rows = read_metrics(tmp_path / "run")
    assert not any("eval/return" in row or "episode/return" in row for row in rows)
    validated = [row["step"] for row in rows if "validation/loss" in row]
    assert validated == [0, 16, 32, 40]


def test_offline_run_without_a_share_holds_nothing_out(data: Path, tmp_path: Path) -> None:
    offline(tmp_path / "run", data, **{"training.validation_share": 0.0})
    assert not (tmp_path / "run" / "validation.db").exists()
    assert len(episodes(tmp_path / "run" / "replay.db")) == len(list(open_recording(data)))


def test_offline_run_is_evaluated_in_the_environment_that_is_named(data: Path, tmp_path: Path) -> None:
    offline(tmp_path / "run", data, env="CartPole-v1")
    assert [row["step"] for row in read_metrics(tmp_path / "run") if "eval/return" in row] == [0, 16, 32, 40]


def test_offline_run_resumed_without_its_data_equals_the_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    offline(tmp_path / "whole", data)
    with pytest.raises(Interrupted):
        offline(tmp_path / "parts", data, callbacks=[InterruptAt(24)])
    reverie.train(logdir=tmp_path / "parts", resume=True, loggers=[], quiet=True)
    assert digest(tmp_path / "whole") == digest(tmp_path / "parts")


def test_prefill_from_data_begins_with_its_episodes_and_goes_on_in_the_environment(data: Path, tmp_path: Path) -> None:
    recorded = list(open_recording(data))
    settings = {**SETTINGS, "eval_every": 0, "steps": 60, "prefill": 50}
    agent = reverie.train("CartPole-v1", "debug", logdir=tmp_path / "run", prefill_from=data, **settings)
    found = episodes(tmp_path / "run" / "replay.db")
    assert all(same(*pair) for pair in zip(recorded, found, strict=False))
    assert len(found) > len(recorded)
    assert agent.agent_steps == 60 and agent.updates == 1 + 60 // 4  # no random play


def test_relabel_replaces_the_rewards(data: Path, tmp_path: Path) -> None:
    (key,) = open_recording(data).spec.observations

    def angle(episode: Episode) -> Any:
        return np.where(episode["is_first"], 0, np.cos(episode[key][:, 2]))

    offline(tmp_path / "run", data, relabel=angle)
    for episode in [*episodes(tmp_path / "run" / "replay.db"), *episodes(tmp_path / "run" / "validation.db")]:
        assert np.array_equal(episode["reward"], angle(episode).astype(np.float32))
    with pytest.raises(DataError, match="relabel returned rewards of shape"):
        offline(tmp_path / "wrong", data, relabel=lambda episode: episode["reward"][1:])
    assert not (tmp_path / "wrong").exists()


def test_data_that_cannot_be_read_leaves_the_old_run_as_it_was(data: Path, tmp_path: Path) -> None:
    offline(tmp_path / "run", data)
    before = digest(tmp_path / "run")
    with pytest.raises(DataError, match="relabel returned"):
        offline(tmp_path / "run", data, overwrite=True, relabel=lambda episode: episode["reward"] + 1)
    assert digest(tmp_path / "run") == before
    assert not (tmp_path / "run" / ".import").exists()


def test_run_that_is_overwritten_may_be_the_data(data: Path, tmp_path: Path) -> None:
    offline(tmp_path / "run", data, **{"training.validation_share": 0.0})
    before = episodes(tmp_path / "run" / "replay.db")
    offline(tmp_path / "run", tmp_path / "run", overwrite=True, **{"training.validation_share": 0.0})
    assert all(same(*pair) for pair in zip(before, episodes(tmp_path / "run" / "replay.db"), strict=True))


class HeldOut(reverie.Callback):
    """Counts the held-out episodes that another process would find when the run has begun."""

    def on_start(self, run: Any) -> None:
        self.found = len(episodes(run.path / "validation.db"))


def test_held_out_episodes_are_on_the_disk_before_the_first_update(data: Path, tmp_path: Path) -> None:
    held_out = HeldOut()
    offline(tmp_path / "run", data, callbacks=[held_out])
    assert held_out.found > 0


def test_held_out_episodes_that_are_too_short_are_not_validated(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"replay.batch_length": 60, "replay.sampling": "steps", "training.validation_share": 0.05, "quiet": False}
    offline(tmp_path / "run", data, **long)
    assert "shorter than replay.batch_length. Nothing is validated." in " ".join(capsys.readouterr().out.split())
    assert not any("validation/loss" in row for row in read_metrics(tmp_path / "run"))


def test_offline_without_data_and_of_an_online_run_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no recorded episodes.*--offline DATA"):
        reverie.train("CartPole-v1", "debug", logdir=tmp_path / "run", **{**SETTINGS, "collect": "none", "steps": 8})
    settings = {**SETTINGS, "eval_every": 0, "steps": 210}
    reverie.train("CartPole-v1", "debug", logdir=tmp_path / "online", **settings)
    with pytest.raises(ConfigError, match=r"collects in its environment\. Nothing was changed"):
        reverie.train("CartPole-v1", logdir=tmp_path / "online", resume=True, offline=data, loggers=[], quiet=True)
    with pytest.raises(ConfigError, match="explore is random, but with"):
        offline(tmp_path / "explore", data, explore="random")


def test_data_of_another_environment_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds .* but the environment has"):
        offline(tmp_path / "run", data, env="Acrobot-v1")
    assert not (tmp_path / "run").exists()


def test_offline_commands(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    options = ["--preset", "debug", "--pretrain", "1", "--steps", "8", "--log", "none", "--threads", "1", "--logdir"]
    assert main(["train", "--offline", str(data), *options, run]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Training on recorded episodes" in said and "more are held out." in said
    assert main(["eval", run]) == 1
    assert "learned from recorded episodes alone and names no environment" in capsys.readouterr().err
    assert main(["train", "--resume", "--logdir", run, "--steps", "12"]) == 0
    assert "Continuing from step 8 of 12." in capsys.readouterr().out
    assert main(["train", "--offline", str(data), "--prefill-from", str(data), *options, run]) == 2
    assert "Leave out one of them" in capsys.readouterr().err


def test_open_loop_error_is_that_of_predictions_one_step_at_a_time() -> None:
    spec = EnvSpec({key: DICT[key] for key in ("position", "wrist")}, CONTINUOUS)
    settings = {f"world_model__{part}__kinds": "all" for part in ("encoder", "decoder")}
    agent = build_agent(tiny(world_model__rssm__latents="gaussian", **settings), spec, seed=0)
    steps = random_steps(spec, (6, 2))
    steps["is_first"][4, 1] = True  # what follows is another episode
    found = validate(agent, steps, torch.Generator().manual_seed(0))
    model, batch = agent.world_model, tensors(steps)
    generator = torch.Generator().manual_seed(0)
    noise = model.rssm.latents.draw_noise((6, 2), generator)
    with torch.no_grad():
        state = model.infer({key: rows[:3] for key, rows in batch.items()}, None, noise[:3]).posterior
        latent, errors = state.map(lambda part: part[-1]), []
        targets = model.preprocess(batch)
        for t in range(3, 6):
            latent = model.rssm.imagine(batch["action"][t : t + 1], latent, noise[t : t + 1]).map(lambda part: part[0])
            predicted = {**model.decoder.images(latent.feat), **model.decoder.vectors(latent.feat)}
            for key, mean in predicted.items():
                for b in range(2 if t < 4 else 1):
                    errors.append(float((mean[b] - targets[key][t, b]).square().mean()))
    assert float(found["validation/open_loop_error"]) == pytest.approx(np.mean(errors), rel=1e-4)

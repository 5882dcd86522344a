"""Options of a start: initial weights, a run that is replaced, and one that prints nothing."""

import logging
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import reverie
from reverie.errors import ConfigError, ReverieError
from reverie.runs.metrics import read_metrics

SETTINGS: dict[str, Any] = {
    **{"env.parallel": False, "steps": 40, "prefill": 24, "train_every": 8, "eval_every": 0, "video_every": 0},
}


class Weights(reverie.Callback):
    """Keeps a copy of the weights that a run starts with."""

    def on_start(self, run: Any) -> None:
        """Copy them."""
        self.at_start = {name: value.clone() for name, value in run.agent.state_dict().items()}
        self.updates = run.agent.updates


def train(logdir: Path, env: Any = "CartPole-v1", **settings: Any) -> reverie.Dreamer:
    return reverie.train(env, "debug", logdir=logdir, **{**SETTINGS, **settings})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Initial weights


def test_train_init_starts_with_the_weights_of_a_run_and_counts_from_zero(tmp_path: Path) -> None:
    source, weights = train(tmp_path / "source"), Weights()
    agent = train(tmp_path / "new", seed=7, init=tmp_path / "source", callbacks=[weights])
    assert all(torch.equal(weights.at_start[name], value) for name, value in source.state_dict().items())
    assert weights.updates == 0 and agent.agent_steps == 40
    first = reverie.load(tmp_path / "new" / "checkpoints" / "step-000000000")
    assert all(torch.equal(first.state_dict()[name], value) for name, value in source.state_dict().items())


def test_train_init_of_a_saved_agent_works_and_a_resumed_run_keeps_its_own_weights(tmp_path: Path) -> None:
    reverie.save(train(tmp_path / "source"), tmp_path / "agent")
    agent, weights = train(tmp_path / "new", seed=7, init=tmp_path / "agent"), Weights()
    train(tmp_path / "new", seed=7, init=tmp_path / "agent", resume=True, steps=44, callbacks=[weights])
    assert all(torch.equal(weights.at_start[name], value) for name, value in agent.state_dict().items())


def test_train_init_with_other_sizes_keeps_what_fits_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, weights = train(tmp_path / "source"), Weights()
    changes = {"world_model.rssm.deter": 24, "callbacks": [weights], "keep": "model", "fresh": ("decoder",)}
    train(tmp_path / "new", seed=7, init=tmp_path / "source", **changes)
    said = " ".join(capsys.readouterr().out.split())
    assert "encoder kept" in said and "decoder fresh 0 of" in said and "actor fresh" in said
    assert "rssm in part" in said and " here, " in said and " more " in said
    name = "world_model.encoder.mlp.0.linear.weight"
    assert torch.equal(weights.at_start[name], source.state_dict()[name])


NOTHING = {"keep": "model", "fresh": ["preprocess", "encoder", "rssm", "decoder", "reward", "discount"]}


def test_train_init_of_which_nothing_is_kept_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    train(tmp_path / "source")
    before, handler = contents(tmp_path), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigError, match="No weights of the agent for CartPole-v1 fit"):
        train(tmp_path / "new", init=tmp_path / "source", **NOTHING)
    assert contents(tmp_path) == before and not (tmp_path / "new").exists()
    assert signal.getsignal(signal.SIGTERM) == handler


def test_train_init_refused_with_overwrite_keeps_the_old_run(tmp_path: Path) -> None:
    train(tmp_path / "source")
    train(tmp_path / "old", **{"world_model.rssm.deter": 24})
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="No weights of the agent for CartPole-v1 fit"):
        train(tmp_path / "old", init=tmp_path / "source", overwrite=True, **NOTHING)
    after = contents(tmp_path)
    assert {name: after.get(name) for name in before if ".lock" not in name and "lock.json" not in name} == {
        name: content for name, content in before.items() if ".lock" not in name and "lock.json" not in name
    }


# Overwriting


def test_train_overwrite_replaces_the_run_and_keeps_other_files(tmp_path: Path) -> None:
    train(tmp_path, steps=50)
    (tmp_path / "notes.txt").write_text("mine")
    agent = train(tmp_path, overwrite=True, seed=3)
    assert agent.agent_steps == 40 and reverie.load(tmp_path).config.training.seed == 3
    assert [row["step"] for row in read_metrics(tmp_path)][-1] == 40
    assert {path.name for path in (tmp_path / "checkpoints").glob("step-*")} == {"step-000000000", "step-000000040"}
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_train_overwrite_of_no_run_starts_one(tmp_path: Path) -> None:
    assert train(tmp_path / "run", overwrite=True).agent_steps == 40


def test_train_overwrite_and_resume_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ReverieError, match="--overwrite"):
        train(tmp_path, overwrite=True, resume=True)
    assert contents(tmp_path) == before


# Quiet


def test_train_quiet_prints_nothing_and_logs_its_messages(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="reverie")
    train(tmp_path, quiet=True)
    train(tmp_path, quiet=True, resume=True, steps=48)
    train(tmp_path, quiet=True, resume=True, steps=48)
    captured = capfd.readouterr()
    assert captured.out == ""
    text = caplog.text
    assert "Disk: at most" in text
    assert "Continuing from step 40 of 48." in text
    assert "This run has its 48 steps; nothing was trained or saved" in text
    assert all(record.name == "reverie" for record in caplog.records if "Continuing" in record.message)


def test_train_of_a_class_by_its_name_imports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    code = "from gymnasium.envs.classic_control import CartPoleEnv\n\nclass Own(CartPoleEnv):\n    pass\n"
    (tmp_path / "start_own_class.py").write_text(code)
    agent = train(tmp_path / "run", "start_own_class:Own", quiet=True)
    assert agent.config.env.name == "start_own_class:Own"

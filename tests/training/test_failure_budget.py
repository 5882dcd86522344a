"""Runs whose environments fail: they continue, with a message and a count, up to a number of failures."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import reverie
from reverie.errors import EnvError
from reverie.runs.metrics import read_metrics
from reverie.runs.verify import verify
from reverie.training.failure_budget import FailureBudget
from tests.helpers.environments import Unreliable

RUN: dict[str, Any] = {
    **{"env.parallel": False, "env.num_envs": 2, "env.max_restarts_per_hour": 1000, "threads": 1, "steps": 200},
    **{"prefill": 60, "seed": 1, "train_every": 20, "eval_every": 0, "log_every": 50, "video_every": 0},
    **{"checkpoint_every": 50, "pretrain": 0},
}


def train(folder: Path, *ways: str, probability: float, resume: bool = False, **settings: Any) -> None:
    environment = partial(Unreliable, *ways, probability=probability)
    environment.__qualname__ = "Unreliable"  # type: ignore[attr-defined]
    reverie.train(environment, "debug", logdir=folder, resume=resume, **{**RUN, **settings})


@pytest.mark.parametrize("collection", ["off", "on"])
def test_train_failing_environments_are_restarted_reported_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], collection: str
) -> None:
    train(tmp_path, "raises", probability=0.05, async_collection=collection)
    text = " ".join(capsys.readouterr().out.split())
    assert "the motor is on fire" in text and "It was restarted; its episode counts as truncated." in text
    assert "(failure 1 of the 1000 that env.max_restarts_per_hour allows)" in text
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[-1]["step"] >= 200 and rows[-1]["env/restarts"] > 3
    assert all(row["episode/length"] == 20 for row in rows if "episode/length" in row)  # whole episodes only
    assert not verify(tmp_path).damage


def test_train_too_many_failures_end_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(
        EnvError, match=r"the motor is on fire.*This was failure 4 within an hour.*env.max_restarts_per_hour is 3"
    ):
        train(tmp_path, "raises", probability=0.1, **{"env.max_restarts_per_hour": 3})
    newest = sorted((tmp_path / "checkpoints").glob("step-*"))[-1]
    assert json.loads((newest / "state.json").read_text())["training"]["counters"]["restarts"] == 4
    train(tmp_path, "raises", probability=0.0, resume=True)
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["step"] == 200


def test_train_with_no_restarts_allowed_ends_at_the_first_failure(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match=r"the motor is on fire \("):
        train(tmp_path, "raises", probability=0.1, **{"env.max_restarts_per_hour": 0})


def test_train_failed_evaluation_starts_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only evaluations fail here, each second episode."""
    made = []

    class Second(Unreliable):
        def __init__(self) -> None:
            super().__init__("raises", probability=0.0)
            made.append(self)
            self.probability = 0.02 if len(made) > 2 else 0.0

    reverie.train(Second, "debug", logdir=tmp_path, **{**RUN, "eval_every": 100, "eval_episodes": 3})
    assert "The evaluation starts over." in " ".join(capsys.readouterr().out.split())
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "eval/return" in row]
    assert rows and all(row["eval/return"] == 20 for row in rows)


def test_failure_budget_counts_within_an_hour_and_in_a_row() -> None:
    now = [0.0]
    budget = FailureBudget(3, lambda: now[0])
    for _ in range(10):  # one every half hour, with steps between them: at most two within an hour
        assert "failure" in budget.record(EnvError("the motor."), "It was restarted.")
        budget.record_success()
        now[0] += 1801
    for number in (1, 2, 3):  # never a step between them, hours apart
        now[0] += 10_000
        assert f"failure {number} of the 3" in budget.record(EnvError("the motor."), "It was restarted.")
    now[0] += 10_000
    with pytest.raises(EnvError, match=r"failure 4 within an hour or in a row, and env.max_restarts_per_hour is 3"):
        budget.record(EnvError("the motor."), "It was restarted.")

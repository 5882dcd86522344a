"""W&B offline: the files of the real package, read without it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.trackers import Recorder, log_run
from tests.helpers.wandb_file import read_history, read_records

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)


def log(*args: Any, **options: Any) -> tuple[Recorder, list[str]]:
    result = log_run("wandb", *args, **options)
    wandb.teardown()  # its own process writes the file, and may do so after the run was closed
    return result


def curve(run_dir: Path, name: str, axis: str = "step") -> list[tuple[int, Any]]:
    return [(row[axis], row[name]) for row in read_history(run_dir) if name in row]


def runs(run_dir: Path) -> list[Any]:
    files = sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))
    records = [record for file in files for record in read_records(file)]
    return [record.run for record in records if record.WhichOneof("record_type") == "run"]


def test_wandb_resumed_run_continues_without_doubled_steps(tmp_path: Path) -> None:
    assert not log(tmp_path, [10, 20, 30])[1]
    assert not log(tmp_path, [20, 30, 40], resumed_at=10)[1]
    assert curve(tmp_path, "episode/return") == [(step, step) for step in (10, 20, 30, 40)]
    assert curve(tmp_path, "eval/return") == [(step, 2 * step) for step in (10, 20, 30, 40)]
    assert curve(tmp_path, "pretraining/kl", "updates") == [(1, 9), (2, 8)]
    assert [step for step, _ in curve(tmp_path, "model/dream")] == [10, 20, 30, 40]
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/videos/model/dream_*.gif"))) == 4
    first, second = runs(tmp_path)
    assert (first.run_id, first.project, first.display_name) == (second.run_id, "reverie", "my run")
    config = {item.key: json.loads(item.value_json) for item in first.config.update}
    assert config["training"] == {"seed": 3, "steps": 100} and config["run"]["preset"] == "atari"


def test_wandb_metrics_are_drawn_over_steps_and_updates(tmp_path: Path) -> None:
    log(tmp_path, [10])
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    metrics = [record.metric for record in read_records(file) if record.WhichOneof("record_type") == "metric"]
    axes = {metric.name: metric.step_metric for metric in metrics if metric.step_metric}
    assert axes["episode/return"] == axes["eval/return"] == axes["model/dream"] == "step"
    assert axes["pretraining/kl"] == "updates"


def test_wandb_that_raises_is_left_out_until_the_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise wandb.Error("quota exceeded")

    def before(step: int) -> None:
        if step == 20:
            broken.setattr(wandb.Run, "log", fail)

    with monkeypatch.context() as broken:
        recorder, messages = log(tmp_path, [10, 20, 30], before=before)
    assert len(recorder.rows) == 8
    assert messages == ["Logger wandb failed (quota exceeded). It gets no more of this run. Training continues."]
    assert not log(tmp_path, [40], resumed_at=30)[1]
    assert [step for step, _ in curve(tmp_path, "episode/return")][-1] == 40
    assert len({run.run_id for run in runs(tmp_path)}) == 1

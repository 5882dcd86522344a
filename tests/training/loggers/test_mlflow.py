"""MLflow in a database of its own, read through its client."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.trackers import CONFIG, log_run

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the database, whose tables take seconds to create, and the artifacts."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(autouse=True)
def database(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    yield
    mlflow.set_tracking_uri(None)


def the_run() -> Any:
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", "reverie"))
    [run] = client.search_runs([experiment.experiment_id])
    return run


def curve(name: str) -> list[tuple[int, float]]:
    history = mlflow.MlflowClient().get_metric_history(the_run().info.run_id, name)
    return [(metric.step, metric.value) for metric in history]


def test_mlflow_resumed_run_continues_without_doubled_steps(tmp_path: Path) -> None:
    assert not log_run("mlflow", tmp_path, [10, 20, 30])[1]
    assert not log_run("mlflow", tmp_path, [20, 30, 40], resumed_at=10)[1]
    assert curve("episode/return") == [(step, step) for step in (10, 20, 30, 40)]
    assert curve("eval/return") == [(step, 2 * step) for step in (10, 20, 30, 40)]
    assert curve("pretraining/kl") == [(1, 9), (2, 8)]
    assert [math.isnan(value) for _, value in curve("model/kl")] == 4 * [True]
    run = the_run()
    assert (run.info.run_name, run.info.status) == ("my run", "FINISHED")
    assert run.data.params == {"env.name": "ALE/Pong-v5", "training.seed": "3", "training.steps": "100"}
    assert run.data.tags["reverie.preset"] == "atari"
    client = mlflow.MlflowClient()
    videos = client.list_artifacts(run.info.run_id, "videos/model/dream")
    assert [Path(file.path).name for file in videos] == [f"dream-{step:09d}.gif" for step in (10, 20, 30, 40)]
    config = client.download_artifacts(run.info.run_id, "config.json")
    assert json.loads(Path(config).read_text()) == CONFIG


def test_mlflow_that_raises_is_left_out_until_the_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    client, ids = mlflow.MlflowClient(), []

    def before(step: int) -> None:
        if step == 20:
            ids.append(the_run().info.run_id)
            client.delete_run(ids[0])

    recorder, messages = log_run("mlflow", tmp_path, [10, 20, 30], before=before)
    assert len(recorder.rows) == 8
    [message] = messages
    assert message.startswith("Logger mlflow failed (") and len(message) <= 160
    client.restore_run(ids[0])
    assert not log_run("mlflow", tmp_path, [40], resumed_at=30)[1]
    assert curve("episode/return") == [(10, 10), (40, 40)]

"""Trackio on this machine, read through its own storage."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from reverie.training.loggers import RunInfo, make_logger
from tests.helpers.trackers import log_run

# Trackio reads it when it is imported.
FOLDER = tempfile.TemporaryDirectory()
os.environ["TRACKIO_DIR"] = FOLDER.name
trackio = pytest.importorskip("trackio")


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("TRACKIO_PROJECT", tmp_path.name)
    monkeypatch.delenv("TRACKIO_SPACE_ID", raising=False)
    monkeypatch.delenv("TRACKIO_SERVER_URL", raising=False)
    return tmp_path.name


def run_name(run_dir: Path) -> str:
    return str(json.loads((run_dir / "trackers.json").read_text())["trackio"]["id"])


def curve(run_dir: Path, name: str) -> list[tuple[int, Any]]:
    from trackio.sqlite_storage import SQLiteStorage

    assert SQLiteStorage.get_runs(run_dir.name) == [run_name(run_dir)]
    rows = SQLiteStorage.get_logs(run_dir.name, run_name(run_dir))
    return [(row["step"], row[name]) for row in rows if name in row]


def test_trackio_resumed_run_continues_without_doubled_steps(tmp_path: Path) -> None:
    assert not log_run("trackio", tmp_path, [10, 20, 30])[1]
    assert run_name(tmp_path).startswith("my-run-")
    assert not log_run("trackio", tmp_path, [20, 30, 40], resumed_at=10)[1]
    assert curve(tmp_path, "episode/return") == [(step, step) for step in (10, 20, 30, 40)]
    assert curve(tmp_path, "eval/return") == [(step, 2 * step) for step in (10, 20, 30, 40)]
    assert curve(tmp_path, "pretraining/kl") == [(1, 9), (2, 8)]
    assert all(math.isnan(value) for _, value in curve(tmp_path, "model/kl"))
    videos = curve(tmp_path, "model/dream")
    assert [step for step, _ in videos] == [10, 20, 30, 40]
    assert all((Path(FOLDER.name) / "media" / video["file_path"]).is_file() for _, video in videos)


def test_trackio_that_raises_is_left_out_until_the_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("the space is asleep")

    def before(step: int) -> None:
        if step == 20:
            broken.setattr(trackio.Run, "log", fail)

    with monkeypatch.context() as broken:
        recorder, messages = log_run("trackio", tmp_path, [10, 20, 30], before=before)
    assert len(recorder.rows) == 8
    assert messages == ["Logger trackio failed (the space is asleep). It gets no more of this run. Training continues."]
    assert not log_run("trackio", tmp_path, [40], resumed_at=30)[1]
    assert curve(tmp_path, "episode/return") == [(10, 10), (40, 40)]


def test_trackio_of_a_quiet_run_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for is_quiet in (False, True):
        logger = make_logger("trackio")
        logger.open(RunInfo("my run", tmp_path, "ALE/Pong-v5", is_quiet=is_quiet), {}, None)
        logger.close("finished")
        assert (capsys.readouterr().out == "") is is_quiet

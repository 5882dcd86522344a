"""Metrics that are read while they are written."""

import json
from pathlib import Path

import pytest

from reverie.sweeps.status import RunProgress, RunStatus
from tests.helpers.sweeps import grid


def row(step: int, **more: float | None) -> str:
    values = {"step": step, "frames": 4 * step, "time": step / 10, "updates": max(step - 20, 0)}
    return json.dumps({**values, **{name.replace("__", "/"): value for name, value in more.items()}}) + "\n"


@pytest.fixture
def status(tmp_path: Path) -> RunStatus:
    found = RunStatus(grid(seeds=1)[0], tmp_path, float)
    found.folder.path.mkdir(parents=True)
    return found


def write(status: RunStatus, text: str) -> RunProgress:
    with status.folder.metrics.open("a") as file:
        file.write(text)
    status.read_metrics()
    return status.progress


def test_read_metrics_sums_up_complete_rows(status: RunStatus) -> None:
    status.read_metrics()
    assert status.progress == RunProgress()
    assert write(status, row(10, episode__return=3.0) + row(20)) == RunProgress(20, 80, 2, score=3.0)
    found = write(status, row(30, eval__return=7.0, episode__return=1.0) + row(40, episode__return=2.0)[:-5])
    assert found == RunProgress(30, 120, 3, 10, (120, 3), 7.0, True)
    found = write(status, row(40, episode__return=2.0)[-5:] + row(50, eval__return=None))
    assert found == RunProgress(50, 200, 5, 30, (120, 3), 7.0, True)


def test_read_metrics_leaves_the_pace_of_pretraining_out(status: RunStatus) -> None:
    """Its rows have more and more updates, but the same frames; the run's own pace begins with the last of them."""
    paused = [row(40, time=seconds, updates=updates) for seconds, updates in ((4, 0), (14, 10), (24, 20))]
    found = write(status, "".join(paused) + row(50, time=27, updates=23) + row(60, time=30, updates=26))
    assert (found.first, found.frames, found.seconds) == ((160, 24), 240, 30)


def test_read_metrics_of_a_file_that_was_cut_or_replaced_starts_again(status: RunStatus) -> None:
    """As a resumed run does with rows that are later than its checkpoint."""
    assert write(status, row(10) + row(20, eval__return=5.0)).step == 20
    status.folder.metrics.write_text(row(10))
    assert write(status, "") == RunProgress(10, 40, 1)
    other = status.folder.path / "new"
    other.write_text(row(30) + row(40))
    other.replace(status.folder.metrics)
    assert write(status, "").step == 40


def test_read_metrics_skips_what_is_no_row(status: RunStatus) -> None:
    assert write(status, "nonsense\n[1]\n{}\n" + row(10)).step == 10

"""Status of a sweep: metrics that are read while they are written, and the time that is left."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from reverie.sweeps.status import RunStatus, State, Sweep, status_table
from tests.helpers.sweeps import grid


def row(step: int, **more: float | None) -> str:
    values = {"step": step, "frames": 4 * step, "time": step / 10, "updates": max(step - 20, 0)}
    return json.dumps({**values, **{name.replace("__", "/"): value for name, value in more.items()}}) + "\n"


@pytest.fixture
def status(tmp_path: Path) -> RunStatus:
    found = RunStatus(grid(seeds=1)[0], tmp_path)
    found.folder.path.mkdir(parents=True)
    return found


def write(status: RunStatus, text: str) -> tuple[int, str]:
    with status.folder.metrics.open("a") as file:
        file.write(text)
    status.read_metrics()
    return status.step, status.score


def test_read_metrics_takes_the_newest_values_of_complete_rows(status: RunStatus) -> None:
    assert write(status, "") == (0, "")
    assert write(status, row(10, episode__return=3.0) + row(20)) == (20, "3 (training)")
    assert write(status, row(30, eval__return=7.0, episode__return=1.0) + row(40)[:-5]) == (30, "7")
    assert write(status, row(40)[-5:] + "nonsense\n[1]\n{}\n" + row(50, eval__return=None)) == (50, "7")
    assert status.fraction == 0.25


def test_read_metrics_of_a_file_that_was_cut_or_replaced_starts_again(status: RunStatus) -> None:
    """As a resumed run does with rows that are later than its checkpoint."""
    assert write(status, row(10) + row(20, eval__return=5.0)) == (20, "5")
    status.folder.metrics.write_text(row(10))
    assert write(status, "") == (10, "")
    other = status.folder.path / "new"
    other.write_text(row(30) + row(40))
    other.replace(status.folder.metrics)
    assert write(status, "") == (40, "")


def sweep_of(*known: dict[str, float], workers: int = 1) -> Sweep:
    """A sweep of three runs of 200 frames, with the metrics that are known of the first ones, which are running."""
    sweep = Sweep("fake", Path("nowhere"), workers, [RunStatus(run, Path("nowhere")) for run in grid(seeds=3)])
    for status, latest in zip(sweep.runs, known, strict=False):
        status.state, status.latest = State.RUNNING, latest
    return sweep


def test_seconds_left_by_hand() -> None:
    """Half of the first run is left and the two others: 500 frames at 4 and at 12 frames/s, a sixth of a second."""
    runs = {"step": 100, "updates": 9, "perf/fps": 4.0}, {"step": 0, "updates": 9, "perf/fps": 12.0}
    assert sweep_of(*runs).seconds_left() == pytest.approx(500 / 6)
    assert sweep_of(*runs, workers=2).seconds_left() == pytest.approx(500 / 6 / 2)
    assert sweep_of(*runs, workers=9).seconds_left() == pytest.approx(500 / 6 / 3)
    assert sweep_of({"step": 100, "updates": 0, "perf/fps": 4.0}).seconds_left() is None  # random steps are faster


def test_summary_and_table_show_every_run() -> None:
    sweep = sweep_of({"step": 100, "updates": 9, "perf/fps": 4.0, "episode/return": 1.5}, {"step": 7})
    sweep.runs[1].state = State.WAITING
    sweep.runs[2].state = State.FAILED
    assert sweep.summary() == "fake: 1 running, 1 waiting, 1 failed, about 0:01:13 left"
    console = Console(width=160)
    with console.capture() as captured:
        console.print(status_table(sweep.runs, sweep.summary()))
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in captured.get().splitlines() if "│" in line]
    assert [cells[4:] for cells in shown] == [
        ["running", "50%", "4", "1.5 (training)"],
        ["interrupted", "4%", "", ""],
        ["failed", "0%", "", ""],
    ]

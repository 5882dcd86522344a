"""Metrics that are read while they are written."""

import json
from pathlib import Path

from reverie.experiments.run_progress import Mark, ProgressReader, RunProgress


def row(step: int, **more: float | None) -> str:
    values = {"step": step, "frames": 4 * step, "time": step / 10, "updates": max(step - 20, 0)}
    return json.dumps({**values, **{name.replace("__", "/"): value for name, value in more.items()}}) + "\n"


def test_rows_are_summed_up(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = ProgressReader(path)
    assert tail.read() == RunProgress()
    path.write_text(row(10, episode__return=3.0) + row(20))
    assert tail.read() == RunProgress(20, Mark(80, 2), None, 3.0, False)
    with path.open("a") as file:
        file.write(row(30, eval__return=7.0, episode__return=1.0) + row(40, episode__return=2.0)[:-5])
    assert tail.read() == RunProgress(30, Mark(120, 3), Mark(120, 3), 7.0, True, 10)
    with path.open("a") as file:
        file.write(row(40, episode__return=2.0)[-5:] + row(50, eval__return=None))
    assert tail.read() == RunProgress(50, Mark(200, 5), Mark(120, 3), 7.0, True, 30)


def test_the_pace_of_pretraining_is_left_out(tmp_path: Path) -> None:
    """Rows of which updates go on while steps stand still; the run's own pace begins with the last of them."""
    path = tmp_path / "metrics.jsonl"
    still = [row(40, time=seconds, updates=updates) for seconds, updates in ((4, 0), (14, 10), (24, 20))]
    path.write_text("".join(still) + row(50, time=27, updates=23) + row(60, time=30, updates=26))
    progress = ProgressReader(path).read()
    assert (progress.first, progress.last) == (Mark(160, 24), Mark(240, 30))


def test_a_file_that_was_cut_or_replaced_is_read_anew(tmp_path: Path) -> None:
    """As a resumed run does with rows that are later than its checkpoint."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(row(10) + row(20, eval__return=5.0))
    tail = ProgressReader(path)
    assert tail.read().step == 20
    path.write_text(row(10))
    assert tail.read() == RunProgress(10, Mark(40, 1))
    other = tmp_path / "new"
    other.write_text(row(30) + row(40))
    other.replace(path)
    assert tail.read().step == 40


def test_what_is_not_a_row_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("nonsense\n[1]\n{}\n" + row(10))
    assert ProgressReader(path).read().step == 10

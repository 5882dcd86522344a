"""Rows of metrics, written, followed while they are written, and read as rows or columns."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from reverie.errors import RunError
from reverie.runs.metrics import MetricsFile, MetricsTail, read_columns, read_metrics


def row(step: int, **more: float | None) -> dict[str, float | None]:
    return {"step": step, "frames": 4 * step, "time": step / 10, "updates": 0, **more}


def write(path: Path, steps: range) -> MetricsFile:
    file = MetricsFile(path)
    for step in steps:
        file.append(row(step))
    file.close()
    return file


def test_read_columns_missing_and_null_values_are_nan(tmp_path: Path) -> None:
    rows = [row(1, loss=2.0), row(2), row(3, loss=None, entropy=1.5)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    columns = read_columns(tmp_path)
    assert list(columns) == ["step", "frames", "time", "updates", "loss", "entropy"]
    np.testing.assert_array_equal(columns["step"], [1, 2, 3])
    np.testing.assert_array_equal(columns["loss"], [2.0, math.nan, math.nan])
    np.testing.assert_array_equal(columns["entropy"], [math.nan, math.nan, 1.5])


def test_read_columns_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row(1)) + "\n?\n" + json.dumps(row(2)) + "\n")
    with pytest.raises(RunError, match="line 2 is damaged"):
        read_columns(tmp_path)


def test_append_counts_rows_and_their_checksum(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = write(path, range(5))
    assert (file.num_rows, file.sha256) == (5, hashlib.sha256(path.read_bytes()).hexdigest())
    assert [each["step"] for each in read_metrics(path)] == [0, 1, 2, 3, 4]


def test_open_at_a_checkpoint_drops_later_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    earlier = write(path, range(3))
    path.write_text(path.read_text() + json.dumps(row(3)) + "\n" + json.dumps(row(4))[:10])
    file = MetricsFile(path, 3)
    assert (file.num_rows, file.num_dropped, file.sha256) == (3, 1, earlier.sha256)
    file.append(row(3))
    file.close()
    assert [each["step"] for each in read_metrics(path)] == [0, 1, 2, 3]
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_open_at_removed_line_never_keeps_a_row_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(6))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    file = MetricsFile(path, 3, step=2)
    file.close()
    assert [each["step"] for each in read_metrics(path)] == [1, 2]


def test_open_at_damaged_row_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(3))
    path.write_text("?\n" + path.read_text())
    before = path.read_bytes()
    with pytest.raises(RunError, match="line 1 is damaged"):
        MetricsFile(path, 3)
    assert path.read_bytes() == before


def test_tail_yields_each_complete_row_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.read() == (False, [])
    first, second = json.dumps(row(1)) + "\n", json.dumps(row(2)) + "\n"
    path.write_text(first + "nonsense\n" + second[:7])
    assert tail.read() == (True, [row(1)])
    with path.open("a") as file:
        file.write(second[7:])
    assert tail.read() == (False, [row(2)])
    assert tail.read() == (False, [])
    path.write_text(first)  # as a resumed run does
    assert tail.read() == (True, [row(1)])

"""TensorBoard event files: what TensorBoard itself reads in them, and what a full disk does."""

import resource
import threading
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reverie.errors import RunError
from reverie.training.events import EventFile
from reverie.training.metrics import MetricsWriter


def read(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory)).Reload()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    with EventFile(tmp_path) as file:
        file.scalars({"train/return": 1.5, "model/kl": 0.25}, 10)
        # Readable at once, while the run goes on.
        board = read(tmp_path)
        file.scalars({"train/return": 2.5}, 20)
    assert [(event.step, event.value) for event in board.Scalars("train/return")] == [(10, 1.5)]
    board = read(tmp_path)
    assert [(event.step, event.value) for event in board.Scalars("train/return")] == [(10, 1.5), (20, 2.5)]
    assert [(event.step, event.value) for event in board.Scalars("model/kl")] == [(10, 0.25)]
    assert board.file_version == 2


def test_a_purged_step_is_hidden(tmp_path: Path) -> None:
    with EventFile(tmp_path) as file:
        for step in (10, 20, 30):
            file.scalars({"x": step}, step)
    with EventFile(tmp_path, purge_step=21) as file:
        file.scalars({"x": 25}, 25)
    assert len(list(tmp_path.iterdir())) == 2
    assert [event.value for event in read(tmp_path).Scalars("x")] == [10, 20, 25]


def test_a_full_disk_is_one_error_in_this_thread(tmp_path: Path) -> None:
    threads = threading.active_count()
    writer = MetricsWriter(tmp_path).open()
    assert threading.active_count() == threads  # one of its own would fail where nobody catches it
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))
    try:
        with pytest.raises(RunError, match="Cannot write metrics in"):
            for step in range(100):
                writer.write(step, step, 0.0, 0, {f"metric/{name}": 1.0 for name in range(20)})
        with pytest.raises(RunError, match="Cannot write metrics in"):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.close()

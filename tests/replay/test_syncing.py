"""Stored steps reach the disk within a second or so, and what goes wrong there is told."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import Replay
from reverie.replay.syncing import Syncer
from tests.helpers.numbered_rows import SPECS, row


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def replay_in(folder: Path, seconds: float) -> Replay:
    return Replay(folder, SPECS, ReplayConfig(capacity=2000, batch_size=2, batch_length=4, fsync_interval=seconds), 1)


def is_running(replay: Replay) -> bool:
    thread = replay._segments._syncer._thread
    return thread is not None and thread.is_alive()


def test_every_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        real(descriptor)
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    replay = replay_in(tmp_path, 0.01)
    for number in range(3):
        replay.add(row(number))
    until(lambda: bool(synced))
    assert set(synced) == {"stream-0000-00000000.safetensors"}
    time.sleep(0.05)
    before = len(synced)
    time.sleep(0.1)
    assert len(synced) == before  # Nothing new was written.
    for number in range(3, 300):
        replay.add(row(number))
    until(lambda: "stream-0000-00000001.safetensors" in synced)
    open_files = len(os.listdir("/proc/self/fd"))
    for number in range(300, 400):
        replay.add(row(number))
        time.sleep(0.0005)
    assert len(os.listdir("/proc/self/fd")) <= open_files + 2
    assert is_running(replay)
    replay.close()
    assert not is_running(replay)


def test_an_error_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = threading.Event()

    def fdatasync(descriptor: int) -> None:
        called.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    replay = replay_in(tmp_path, 0.01)
    replay.add(row(0))
    assert called.wait(20)
    until(lambda: replay._segments._syncer._error is not None)
    with pytest.raises(ReplayError, match="The disk is full"):
        replay.commit()


def test_none_if_not_wanted(tmp_path: Path) -> None:
    replay = replay_in(tmp_path, 0)
    replay.add(row(0))
    assert not is_running(replay)
    replay.close()


def test_a_replay_that_nobody_closes(tmp_path: Path) -> None:
    replay = replay_in(tmp_path, 0.01)
    replay.add(row(0))
    thread = replay._segments._syncer._thread
    assert thread is not None
    del replay
    until(lambda: not thread.is_alive())


def test_a_file_that_is_closed_meanwhile() -> None:
    """Its number may be another file's by then."""
    syncer = Syncer(1000.0)
    syncer.note(12345)
    syncer.forget(12345)
    syncer._seconds = 0.01
    syncer._stop.set()
    syncer.close()
    syncer.check()

"""Files are whole or absent, and sealed ones notice every changed byte."""

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reverie.errors import ReverieError
from reverie.runs.atomic_io import (
    Unreadable,
    atomic_path,
    atomic_write,
    dumps_checksummed,
    loads_checksummed,
    make_dir,
    read_file,
)

CONTENT = {"format": "reverie-replay", "version": 2, "episodes": [[0, 1, 2], [1, 0, 300]], "note": None}


def test_loads_checksummed_inverts_dumps_checksummed() -> None:
    assert loads_checksummed(dumps_checksummed(CONTENT)) == CONTENT


def test_loads_checksummed_of_any_changed_byte_is_refused() -> None:
    data = dumps_checksummed(CONTENT)
    for place in range(len(data)):
        for other in (data[place] ^ 1, data[place] ^ 32, 0, ord(" "), ord("9")):
            if other != data[place]:
                with pytest.raises(Unreadable):
                    loads_checksummed(data[:place] + bytes([other]) + data[place + 1 :])
        with pytest.raises(Unreadable):
            loads_checksummed(data[:place])


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"sha256": []}'])
def test_what_was_never_sealed_is_named(data: bytes) -> None:
    with pytest.raises(Unreadable):
        loads_checksummed(data)


def test_a_file_that_cannot_be_written_leaves_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    atomic_write(path, b"before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReverieError, match="No space"):
        atomic_write(path, b"after")
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["file.json"]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that were synced, and renames, in their order."""
    events: list[Any] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: events.append(os.readlink(f"/proc/self/fd/{fd}")) or sync(fd))
    monkeypatch.setattr(Path, "replace", lambda self, to: events.append("renamed") or replace(self, to))
    return events


def test_atomic_write_content_is_synced_before_the_rename_and_the_folder_after(tmp_path: Path, done: list[str]) -> None:
    atomic_write(tmp_path / "file", b"content")
    assert done[0].startswith(str(tmp_path / ".tmp-")) and done[1:] == ["renamed", str(tmp_path)]


def test_atomic_path_content_is_synced_before_the_rename_and_the_folder_after(tmp_path: Path, done: list[str]) -> None:
    with atomic_path(tmp_path / "film.gif") as temporary:
        temporary.write_bytes(b"content")
    assert done == [str(temporary), "renamed", str(tmp_path)]


def test_atomic_path_two_writers_at_once_both_succeed(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    with atomic_path(path) as first:
        first.write_bytes(b"first")
        atomic_write(path, b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == ["film.gif"]


def test_atomic_path_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    left, other = (tmp_path / f".tmp-{process}-0123abcd-film.gif" for process in (child.pid, 1))
    left.touch()
    other.touch()
    atomic_write(tmp_path / "film.gif", b"content")
    assert not left.exists() and other.exists()


def test_make_dir_new_parents_are_synced_into_theirs(tmp_path: Path, done: list[str]) -> None:
    make_dir(tmp_path / "runs" / "one")
    assert set(done) == {str(tmp_path), str(tmp_path / "runs")}
    done.clear()
    make_dir(tmp_path / "runs" / "one")
    assert not done


def test_no_memory_is_taken_for_a_file_of_the_wrong_size(tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Unreadable, match="instead of 7"):
        read_file(huge, size=7)
    with pytest.raises(Unreadable, match="too large"):
        read_file(huge, limit=1000)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unreadable, match="not a file"):
        read_file(tmp_path / "pipe")
    with pytest.raises(Unreadable, match="missing"):
        read_file(tmp_path / "absent")

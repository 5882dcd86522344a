"""Runs on one machine divide its cores, and give back what they took, however they end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest
import torch

from reverie.training import sharing
from reverie.training.metrics import read_metrics
from reverie.training.sharing import SharedCores, give_way, share

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def eight_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that takes eight threads by itself, and looks at the others whenever it is asked to."""
    monkeypatch.setattr(sharing, "_folder", lambda: tmp_path / "notes")
    monkeypatch.setattr(sharing, "LOOK_EVERY", 0.0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


def notes(folder: Path) -> list[Path]:
    return sorted(folder.glob("notes/*"))


@pytest.mark.parametrize(
    ("threads", "others", "expected"),
    [
        (8, [], 8),
        (8, [0], 4),
        (8, [0, 0], 2),
        (8, [1], 7),
        (8, [6, 0], 1),
        (8, [8], 1),
        (2, [0, 0, 0, 0], 1),
        (1, [0], 1),
    ],
)
def test_share(threads: int, others: list[int], expected: int) -> None:
    assert share(threads, others) == expected


def test_runs_give_way_and_take_back(tmp_path: Path) -> None:
    first, second = SharedCores(0), SharedCores(0)
    with first:
        assert first.look() == ""
        assert torch.get_num_threads() == 8
        with second:
            assert first.look().startswith("2 runs share the cores: this one takes 4 of 8 threads")
            assert torch.get_num_threads() == 4
            assert first.look() == ""
        assert first.look() == "No other run shares the cores any more: this one takes 8 threads."
        assert torch.get_num_threads() == 8
    assert not notes(tmp_path)


def test_threads_are_put_back_at_the_end() -> None:
    with SharedCores(0), SharedCores(0) as second:
        second.look()
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == 8
    with SharedCores(3):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 8


@pytest.mark.parametrize("by", ["setting", "environment"])
def test_what_the_user_sets_stays_and_the_others_take_what_is_left(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    neighbour = SharedCores(0)
    if by == "environment":
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        torch.set_num_threads(3)
    with neighbour, SharedCores(3 if by == "setting" else 0) as fixed:
        assert fixed.look() == ""
        assert torch.get_num_threads() == 3
        assert "this one takes 5 of 8 threads" in neighbour.look()


@pytest.mark.parametrize("text", ["", "many", "0", "-3"])
def test_what_openmp_does_not_understand_sets_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with SharedCores(0) as run, SharedCores(0):
        assert "this one takes 4 of 8 threads" in run.look()


def test_without_a_home_folder_a_run_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(sharing, "_folder", sharing.cache_folder)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with SharedCores(0) as run:
        assert run.look() == ""


def test_runs_on_other_cores_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    run = SharedCores(0)
    monkeypatch.setattr(sharing, "_usable_cores", lambda: (1000, 1001))
    with run, SharedCores(0):
        assert run.look() == ""


def test_others_are_counted_now_and_then_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "LOOK_EVERY", 3600.0)
    with SharedCores(0) as run:
        run.look()
        with SharedCores(0):
            assert run.look() == ""


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"pid": 3}', '{"pid": 3, "cores": 1, "threads": 0}'])
def test_a_note_that_cannot_be_read_is_nobodys(text: str) -> None:
    with SharedCores(0) as run, SharedCores(0) as other:
        assert other._path is not None
        other._path.write_text(text)
        assert run.look() == ""


def test_a_folder_that_cannot_be_written_leaves_a_run_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with SharedCores(0) as run:
        assert run.look() == ""
    assert torch.get_num_threads() == 8


def test_without_locks_nothing_is_shared_and_nothing_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with SharedCores(0) as run, SharedCores(0):
        assert run.look() == ""
        assert not notes(tmp_path)


def test_processes_that_only_act_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    give_way()
    assert torch.get_num_threads() == 8
    monkeypatch.delenv("OMP_NUM_THREADS")
    give_way()
    assert torch.get_num_threads() == 1


# Processes


class Run:
    """A process of `reverie train`, tiny and without an end, where PyTorch takes two threads; killed in two minutes."""

    program = (
        "import sys, torch; torch.set_num_threads(2); from reverie.cli import main; sys.exit(main.main(sys.argv[1:]))"
    )

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        words = f"train CartPole-v1 --preset debug --logdir {folder} --steps 1e7 --eval-every 0 --log-every 20"
        outside = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        own = {"PYTHONPATH": str(SOURCE), "XDG_CACHE_HOME": str(cache), "REVERIE_KERNELS": "0", "CI": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.program, *words.split()], env=outside | own, text=True, stdout=subprocess.PIPE
        )
        self._timer = Timer(120, self.process.kill)
        self._timer.start()

    def learns_with(self, threads: int) -> None:
        """Wait until it does."""
        while not self._rows() or self._rows()[-1].get("speed/threads") != threads:
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.1)

    def end(self, kind: signal.Signals) -> str:
        """What it has printed."""
        self.process.send_signal(kind)
        printed, _ = self.process.communicate()
        self._timer.cancel()
        return printed

    def _rows(self) -> list[dict[str, float]]:
        return read_metrics(self.folder) if (self.folder / "metrics.jsonl").exists() else []


def test_two_processes_share_until_one_is_killed(tmp_path: Path) -> None:
    first = Run(tmp_path / "first", tmp_path / "cache")
    try:
        first.learns_with(2)
        second = Run(tmp_path / "second", tmp_path / "cache")
        try:
            second.learns_with(1)
            first.learns_with(1)
        finally:
            second.end(signal.SIGKILL)
        first.learns_with(2)
    finally:
        printed = first.end(signal.SIGINT)
    gave, took = "2 runs share the cores: this one takes 1 of 2 threads", "this one takes 2 threads"
    assert [line for line in printed.splitlines() if gave in line or took in line] == [
        f"{gave} (training.threads would fix their number).",
        f"No other run shares the cores any more: {took}.",
    ]
    assert first.process.returncode == 130
    assert not list(tmp_path.glob("cache/reverie/runs/*/*"))  # the killed one's was removed, too

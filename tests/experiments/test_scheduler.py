"""The engine with stand-ins for the cells: each cell once, failures survived, interruptions made good."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reverie.errors import RunError
from reverie.experiments import scheduler as scheduler_module
from reverie.experiments.board import State
from reverie.experiments.process import LOG, acquire_cell, is_running
from reverie.experiments.run_status import FAILURE, Stage, read_status, record_failure
from reverie.experiments.scheduler import Scheduler
from reverie.experiments.sweep import failures, survey
from reverie.runs.run_folder import RunFolder
from reverie.training.stop_signal import Interrupted
from tests.helpers import sweeps
from tests.helpers.sweeps import STEPS, Quiet, grid, launches, starts, stub_command, sweep

PATIENCE = 30.0
"""Seconds after which a test gives up waiting."""


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that has ended and was not waited for is still there.
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_every_cell_runs_once_and_never_again(tmp_path: Path) -> None:
    cells = grid(envs=("A-v0", "B-v0"), variants=("full", "no-gru-norm"), seeds=2)
    board, _ = sweep(cells, tmp_path)
    assert board.counts() == {State.DONE: 8}
    assert [starts(cell, tmp_path) for cell in cells] == [1] * 8
    assert [entry.progress.score for entry in board.entries] == [STEPS] * 8
    board, view = sweep(cells, tmp_path)
    assert board.counts() == {State.DONE: 8}
    assert [starts(cell, tmp_path) for cell in cells] == [1] * 8
    assert not view.events


def test_a_larger_plan_runs_only_what_is_new(tmp_path: Path) -> None:
    sweep(grid(seeds=1), tmp_path)
    cells = grid(envs=("A-v0", "B-v0"), seeds=2)
    sweep(cells, tmp_path)
    assert {cell.name: starts(cell, tmp_path) for cell in cells} == {cell.name: 1 for cell in cells}


def test_more_steps_go_on_and_other_settings_are_refused(tmp_path: Path) -> None:
    sweep(grid(seeds=1), tmp_path)
    longer = sweeps.cells(sweeps.replace_settings(sweeps.plan(seeds=1), {"training.steps": 2 * STEPS}), sweeps.spec_of)
    sweep(longer, tmp_path)
    assert [(launch.what, launch.step) for launch in launches(longer[0], tmp_path)] == [
        ("start", 0),
        ("end", STEPS),
        ("start", STEPS),
        ("end", 2 * STEPS),
    ]
    other = sweeps.cells(
        sweeps.replace_settings(sweeps.plan(seeds=1), {"world_model.kl.scale": 0.3, "training.steps": 2 * STEPS}),
        sweeps.spec_of,
    )
    with pytest.raises(RunError, match=r"A-v0/full/seed-0 .*world_model.kl.scale was 1.0 and is now 0.3.*--out"):
        survey(other, tmp_path, 1)
    with pytest.raises(RunError, match=r"training.steps was 400 and is now 200"):
        survey(grid(seeds=1), tmp_path, 1)


def test_worker_budget(tmp_path: Path) -> None:
    """At no time do more cells run than there are workers, and at some time there are as many."""
    cells = grid(seeds=7)
    sweep(cells, tmp_path, workers=3, pause=0.01)
    events = []
    for cell in cells:
        start, end = launches(cell, tmp_path)
        events += [(start.time, 1), (end.time, -1)]
    running, most = 0, 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    assert most == 3


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("fails", "The motor is on fire."),
        ("crashes", "ended by SIGSEGV"),
        ("leaves", "it ended before its planned steps"),
    ],
)
def test_a_failing_cell_does_not_stop_the_others(tmp_path: Path, how: str, words: str) -> None:
    cells = grid(seeds=4)
    bad = cells[1]
    board, view = sweep(cells, tmp_path, how={bad.name: how})
    assert board.counts() == {State.DONE: 3, State.FAILED: 1}
    assert board.entries[1].error == words
    assert (bad.name, "failed") in view.events
    assert bad.name in failures(board)
    assert "1 of 4 cells failed" in failures(board)
    assert json.loads((tmp_path / bad.place / FAILURE).read_text())["error"] == words
    if how == "fails":
        assert "The motor is on fire." in (tmp_path / bad.place / LOG).read_text()
    # It is tried again by the next call, and only it.
    board, _ = sweep(cells, tmp_path)
    assert board.counts() == {State.DONE: 4}
    assert [starts(cell, tmp_path) for cell in cells] == [1, 2, 1, 1]
    assert not (tmp_path / bad.place / FAILURE).exists()
    assert not failures(board)


def test_retry(tmp_path: Path) -> None:
    cells = grid(seeds=2)
    board, _ = sweep(cells, tmp_path, how={cells[0].name: "fails once", cells[1].name: "fails"}, retry=2)
    assert [entry.state for entry in board.entries] == [State.DONE, State.FAILED]
    assert [starts(cell, tmp_path) for cell in cells] == [2, 3]


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    board = survey(grid(seeds=1), tmp_path, 1)
    Scheduler(board, tmp_path, Quiet(), lambda cell, folder: ["/no/such/program"], poll=0.01).run()
    assert board.entries[0].state is State.FAILED
    assert "could not be started: No such file" in board.entries[0].error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_cells_save_and_go_on(tmp_path: Path, number: int) -> None:
    cells = grid(seeds=3)
    board = survey(cells, tmp_path, 2)
    calls = 0

    def sleep(seconds: float) -> None:
        nonlocal calls
        calls += 1
        time.sleep(seconds)
        ready = [cell for cell in cells[:2] if (tmp_path / cell.place / "metrics.jsonl").exists()]
        if len(ready) == 2 and calls > 0:
            calls = -(10**6)
            os.kill(os.getpid(), number)

    scheduler = Scheduler(board, tmp_path, Quiet(), stub_command({}, 0.05), poll=0.02, sleep=sleep)
    with pytest.raises(Interrupted) as stopped:
        scheduler.run()
    assert stopped.value.signal == number
    saved = []
    for cell in cells[:2]:
        begun, ended = launches(cell, tmp_path)
        assert (begun.what, ended.what) == ("start", "stop")
        assert 0 < ended.step < STEPS
        assert read_status(cell, tmp_path).stage is Stage.PARTIAL
        assert not (tmp_path / cell.place / FAILURE).exists()
        saved.append(ended.step)
    assert starts(cells[2], tmp_path) == 0
    board, _ = sweep(cells, tmp_path)
    assert board.counts() == {State.DONE: 3}
    assert [launches(cell, tmp_path)[2].step for cell in cells[:2]] == saved


def test_deaf_cells_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "PATIENCE", 0.2)
    (cell,) = grid(seeds=1)
    board = survey([cell], tmp_path, 1)
    sent = []

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if (tmp_path / cell.place / "metrics.jsonl").exists() and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGTERM))

    with pytest.raises(Interrupted):
        Scheduler(board, tmp_path, Quiet(), stub_command({cell.name: "deaf"}, 0.1), poll=0.02, sleep=sleep).run()
    (start,) = launches(cell, tmp_path)
    assert not is_alive(start.pid)


def test_an_error_of_the_sweep_leaves_no_cell_behind(tmp_path: Path) -> None:
    (cell,) = grid(seeds=1)
    board = survey([cell], tmp_path, 1)

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if launches(cell, tmp_path):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        Scheduler(board, tmp_path, Quiet(), stub_command({cell.name: "hangs"}, 0.0), poll=0.02, sleep=sleep).run()
    assert not is_alive(launches(cell, tmp_path)[0].pid)


@pytest.mark.parametrize("pause", ["0.05"])
def test_kill_9_leaves_no_cell_behind_and_the_next_call_goes_on(tmp_path: Path, pause: str) -> None:
    cells = grid()
    program = [sys.executable, "-m", "tests.helpers.sweeps", str(tmp_path), "2", pause]
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(program, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(lambda: all((tmp_path / cell.place / "metrics.jsonl").exists() for cell in cells[:2]))
    parent.kill()
    parent.wait()
    pids = [launches(cell, tmp_path)[0].pid for cell in cells[:2]]
    wait_for(lambda: not any(map(is_alive, pids)))
    for cell in cells[:2]:
        begun, ended = launches(cell, tmp_path)
        assert (ended.what, ended.pid) == ("stop", begun.pid)
    board, _ = sweep(cells, tmp_path)
    assert board.counts() == {State.DONE: 3}
    assert launches(cells[0], tmp_path)[2].step == launches(cells[0], tmp_path)[1].step > 0


def test_a_deaf_orphan_is_killed(tmp_path: Path) -> None:
    """A cell whose sweep is gone and that does not hear SIGTERM ends all the same."""
    (cell,) = grid(seeds=1)
    command = stub_command({cell.name: "deaf"}, 0.05)(cell, tmp_path)
    (tmp_path / cell.place).mkdir(parents=True)
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    wait_for(lambda: launches(cell, tmp_path))
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(PATIENCE) == -signal.SIGKILL


def test_a_cell_that_runs_elsewhere_is_waited_for(tmp_path: Path) -> None:
    """Another sweep's process holds the lock. When it ends, what it has done is not done again."""
    cells = grid(seeds=3)
    locks = [acquire_cell(tmp_path / cell.place) for cell in cells[:2]]
    assert all(locks)
    assert all(is_running(tmp_path / cell.place) for cell in cells[:2])
    assert acquire_cell(tmp_path / cells[0].place) is None
    board = survey(cells, tmp_path, 2)
    assert [entry.state for entry in board.entries] == [State.ELSEWHERE, State.ELSEWHERE, State.WAITING]
    steps = iter(range(10**6))

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        # The other sweep finishes the first cell, and fails at the second.
        if next(steps) == 5:
            assert board.entries[0].state is State.ELSEWHERE
            sweep_of_another(cells[0], tmp_path)
            record_failure(tmp_path / cells[1].place, "The other one's fire.")
            for lock in locks:
                assert lock is not None
                lock.release()

    Scheduler(board, tmp_path, Quiet(), stub_command({}, 0.0), poll=0.02, sleep=sleep).run()
    assert [entry.state for entry in board.entries] == [State.DONE, State.FAILED, State.DONE]
    assert board.entries[1].error == "The other one's fire."
    assert [starts(cell, tmp_path) for cell in cells] == [1, 0, 1]


def test_acquire_cell_whose_run_folder_is_locked_is_refused(tmp_path: Path) -> None:
    """The sweep was killed, and the process of its cell still writes a checkpoint."""
    (cell,) = grid(seeds=1)
    run = tmp_path / cell.place
    with RunFolder.create(run, cell.config) as folder:
        folder.begin(cell.config)
        assert acquire_cell(run) is None and is_running(run)
        assert survey([cell], tmp_path, 1).entries[0].state is State.ELSEWHERE
    lock = acquire_cell(run)
    assert lock is not None and is_running(run)
    lock.release()
    assert not is_running(run)


def sweep_of_another(cell: sweeps.Cell, folder: Path) -> None:
    child = subprocess.Popen(stub_command({}, 0.0)(cell, folder), stdin=subprocess.PIPE)
    assert child.wait(PATIENCE) == 0
    assert child.stdin is not None
    child.stdin.close()


def test_two_sweeps_share_a_folder(tmp_path: Path) -> None:
    cells = grid(seeds=3)
    root = Path(__file__).parents[2]
    program = [sys.executable, "-m", "tests.helpers.sweeps", str(tmp_path), "1", "0.03"]
    other = subprocess.Popen(program, cwd=root)
    wait_for(lambda: launches(cells[0], tmp_path))
    board, _ = sweep(cells, tmp_path, workers=1, pause=0.03)
    assert other.wait(PATIENCE) == 0
    assert board.counts() == {State.DONE: 3}
    assert [starts(cell, tmp_path) for cell in cells] == [1, 1, 1]


def test_a_cell_equal_to_another_is_not_run(tmp_path: Path) -> None:
    """With discrete actions the preset's agent has Reinforce gradients only, and so that ablation is itself."""
    cells = grid(variants=("full", "reinforce-only"), seeds=1)
    board, _ = sweep(cells, tmp_path)
    assert [entry.state for entry in board.entries] == [State.DONE, State.SAME]
    assert starts(cells[1], tmp_path) == 0


def test_replay_of_what_is_done_can_be_removed(tmp_path: Path) -> None:
    cells = grid(seeds=2)
    sweep(cells[:1], tmp_path)
    assert (tmp_path / cells[0].place / "replay.db").exists()
    sweep(cells, tmp_path, how={}, keep_replay=False)
    assert not (tmp_path / cells[1].place / "replay.db").exists()


def test_done_is_what_the_folder_says(tmp_path: Path) -> None:
    """A row of the planned steps and a checkpoint of them; or that row, where all checkpoints were removed."""
    (cell,) = grid(seeds=1)
    assert read_status(cell, tmp_path).stage is Stage.NEW
    sweep([cell], tmp_path)
    run = tmp_path / cell.place
    newest = run / "checkpoints" / f"step-{STEPS:09d}"
    assert read_status(cell, tmp_path).stage is Stage.DONE
    newest.rename(run / "checkpoints" / f"step-{STEPS - 10:09d}")
    assert read_status(cell, tmp_path).stage is Stage.PARTIAL
    (run / "checkpoints" / f"step-{STEPS - 10:09d}").rmdir()
    assert read_status(cell, tmp_path).stage is Stage.DONE
    rows = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(rows[:-1]) + "\n")
    assert read_status(cell, tmp_path).stage is Stage.NEW

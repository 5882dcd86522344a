"""The engine with stand-ins for the runs: each run once, failures survived, interruptions resumed."""

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
from reverie.runs.run_folder import RunFolder
from reverie.sweeps import scheduler as scheduler_module
from reverie.sweeps.planned_runs import PlannedRun
from reverie.sweeps.scheduler import LOG, Scheduler, acquire_run
from reverie.sweeps.status import FAILURE, RunStatus, State
from reverie.training.stop_signal import Interrupted
from tests.helpers import sweeps
from tests.helpers.sweeps import STEPS, Quiet, grid, launches, starts, stub_command, survey_of, sweep

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


def test_scheduler_runs_each_run_once(tmp_path: Path) -> None:
    runs = grid(envs=("A-v0", "B-v0"), variants=("full", "no-gru-norm"), seeds=2)
    status, _ = sweep(runs, tmp_path)
    assert status.counts() == {State.DONE: 8}
    assert [starts(run, tmp_path) for run in runs] == [1] * 8
    assert [each.progress.score for each in status.runs] == [STEPS] * 8
    status, view = sweep(runs, tmp_path)
    assert status.counts() == {State.DONE: 8}
    assert [starts(run, tmp_path) for run in runs] == [1] * 8
    assert not view.events


def test_scheduler_larger_plan_runs_only_what_is_new(tmp_path: Path) -> None:
    sweep(grid(seeds=1), tmp_path)
    runs = grid(envs=("A-v0", "B-v0"), seeds=2)
    sweep(runs, tmp_path)
    assert {run.name: starts(run, tmp_path) for run in runs} == {run.name: 1 for run in runs}


def test_scheduler_more_steps_continue_and_other_settings_are_refused(tmp_path: Path) -> None:
    sweep(grid(seeds=1), tmp_path)
    longer = sweeps.planned_runs(
        sweeps.replace_settings(sweeps.plan(seeds=1), {"training.steps": 2 * STEPS}), sweeps.spec_of
    )
    sweep(longer, tmp_path)
    assert [(launch.what, launch.step) for launch in launches(longer[0], tmp_path)] == [
        ("start", 0),
        ("end", STEPS),
        ("start", STEPS),
        ("end", 2 * STEPS),
    ]
    other = sweeps.planned_runs(
        sweeps.replace_settings(sweeps.plan(seeds=1), {"world_model.kl.scale": 0.3, "training.steps": 2 * STEPS}),
        sweeps.spec_of,
    )
    with pytest.raises(RunError, match=r"A-v0/full/seed-0 .*world_model.kl.scale was 1 and is now 0.3.*--out"):
        survey_of(other, tmp_path, 1)
    with pytest.raises(RunError, match=r"training.steps was 400 and is now 200"):
        survey_of(grid(seeds=1), tmp_path, 1)


def test_scheduler_keeps_to_the_number_of_workers(tmp_path: Path) -> None:
    """At no time do more runs run than there are workers, and at some time there are as many."""
    runs = grid(seeds=7)
    sweep(runs, tmp_path, workers=3, pause=0.01)
    events = []
    for run in runs:
        start, end = launches(run, tmp_path)
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
def test_scheduler_failing_run_does_not_stop_the_others(tmp_path: Path, how: str, words: str) -> None:
    runs = grid(seeds=4)
    bad = runs[1]
    status, view = sweep(runs, tmp_path, how={bad.name: how})
    assert status.counts() == {State.DONE: 3, State.FAILED: 1}
    assert status.runs[1].error == words
    assert (bad.name, "failed") in view.events
    assert bad.name in status.failures()
    assert "1 of 4 runs failed" in status.failures()
    assert json.loads((tmp_path / bad.path / FAILURE).read_text())["error"] == words
    if how == "fails":
        assert "The motor is on fire." in (tmp_path / bad.path / LOG).read_text()
    # It is tried again by the next call, and only it.
    status, _ = sweep(runs, tmp_path)
    assert status.counts() == {State.DONE: 4}
    assert [starts(run, tmp_path) for run in runs] == [1, 2, 1, 1]
    assert not (tmp_path / bad.path / FAILURE).exists()
    assert not status.failures()


def test_scheduler_retries_a_failing_run(tmp_path: Path) -> None:
    runs = grid(seeds=2)
    status, _ = sweep(runs, tmp_path, how={runs[0].name: "fails once", runs[1].name: "fails"}, retry=2)
    assert [each.state for each in status.runs] == [State.DONE, State.FAILED]
    assert [starts(run, tmp_path) for run in runs] == [2, 3]


def test_scheduler_command_that_does_not_exist_fails(tmp_path: Path) -> None:
    status = survey_of(grid(seeds=1), tmp_path, 1)
    Scheduler(status, Quiet(), lambda run, folder: ["/no/such/program"], poll=0.01).run()
    assert status.runs[0].state is State.FAILED
    assert "could not be started: No such file" in status.runs[0].error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_scheduler_stopped_runs_save_and_continue(tmp_path: Path, number: int) -> None:
    runs = grid(seeds=3)
    status = survey_of(runs, tmp_path, 2)
    calls = 0

    def sleep(seconds: float) -> None:
        nonlocal calls
        calls += 1
        time.sleep(seconds)
        ready = [run for run in runs[:2] if (tmp_path / run.path / "metrics.jsonl").exists()]
        if len(ready) == 2 and calls > 0:
            calls = -(10**6)
            os.kill(os.getpid(), number)

    scheduler = Scheduler(status, Quiet(), stub_command({}, 0.05), poll=0.02, sleep=sleep)
    with pytest.raises(Interrupted) as stopped:
        scheduler.run()
    assert stopped.value.signal == number
    saved = []
    for run in runs[:2]:
        begun, ended = launches(run, tmp_path)
        assert (begun.what, ended.what) == ("start", "stop")
        assert 0 < ended.step < STEPS
        assert state_of(run, tmp_path) is State.WAITING
        assert not (tmp_path / run.path / FAILURE).exists()
        saved.append(ended.step)
    assert starts(runs[2], tmp_path) == 0
    status, _ = sweep(runs, tmp_path)
    assert status.counts() == {State.DONE: 3}
    assert [launches(run, tmp_path)[2].step for run in runs[:2]] == saved


def test_scheduler_runs_that_ignore_signals_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "PATIENCE", 0.2)
    (run,) = grid(seeds=1)
    status = survey_of([run], tmp_path, 1)
    sent = []

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if (tmp_path / run.path / "metrics.jsonl").exists() and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGTERM))

    with pytest.raises(Interrupted):
        Scheduler(status, Quiet(), stub_command({run.name: "deaf"}, 0.1), poll=0.02, sleep=sleep).run()
    (start,) = launches(run, tmp_path)
    assert not is_alive(start.pid)


def test_scheduler_own_error_leaves_no_process(tmp_path: Path) -> None:
    (run,) = grid(seeds=1)
    status = survey_of([run], tmp_path, 1)

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if launches(run, tmp_path):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        Scheduler(status, Quiet(), stub_command({run.name: "hangs"}, 0.0), poll=0.02, sleep=sleep).run()
    assert not is_alive(launches(run, tmp_path)[0].pid)


@pytest.mark.parametrize("pause", ["0.05"])
def test_scheduler_killed_leaves_no_process_and_the_next_call_continues(tmp_path: Path, pause: str) -> None:
    runs = grid()
    program = [sys.executable, "-m", "tests.helpers.sweeps", str(tmp_path), "2", pause]
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(program, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(lambda: all((tmp_path / run.path / "metrics.jsonl").exists() for run in runs[:2]))
    parent.kill()
    parent.wait()
    pids = [launches(run, tmp_path)[0].pid for run in runs[:2]]
    wait_for(lambda: not any(map(is_alive, pids)))
    for run in runs[:2]:
        begun, ended = launches(run, tmp_path)
        assert (ended.what, ended.pid) == ("stop", begun.pid)
    status, _ = sweep(runs, tmp_path)
    assert status.counts() == {State.DONE: 3}
    assert launches(runs[0], tmp_path)[2].step == launches(runs[0], tmp_path)[1].step > 0


def test_child_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    """A run whose sweep is gone and that does not hear SIGTERM ends all the same."""
    (run,) = grid(seeds=1)
    command = stub_command({run.name: "deaf"}, 0.05)(run, tmp_path)
    (tmp_path / run.path).mkdir(parents=True)
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    wait_for(lambda: launches(run, tmp_path))
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(PATIENCE) == -signal.SIGKILL


def test_scheduler_waits_for_a_run_of_another_sweep(tmp_path: Path) -> None:
    """Another sweep's process holds the lock. When it ends, what it has done is not done again."""
    runs = grid(seeds=3)
    locks = [acquire_run(RunFolder(tmp_path / run.path)) for run in runs[:2]]
    assert all(locks)
    assert all(RunStatus(run, tmp_path, time.monotonic).is_locked() for run in runs[:2])
    assert acquire_run(RunFolder(tmp_path / runs[0].path)) is None
    status = survey_of(runs, tmp_path, 2)
    assert [each.state for each in status.runs] == [State.ELSEWHERE, State.ELSEWHERE, State.WAITING]
    steps = iter(range(10**6))

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        # The other sweep finishes the first run, and fails at the second.
        if next(steps) == 5:
            assert status.runs[0].state is State.ELSEWHERE
            sweep_of_another(runs[0], tmp_path)
            failure = {"error": "The other one's fire.", "time": time.time()}
            (tmp_path / runs[1].path / FAILURE).write_text(json.dumps(failure))
            for lock in locks:
                assert lock is not None
                lock.release()

    Scheduler(status, Quiet(), stub_command({}, 0.0), poll=0.02, sleep=sleep).run()
    assert [each.state for each in status.runs] == [State.DONE, State.FAILED, State.DONE]
    assert status.runs[1].error == "The other one's fire."
    assert [starts(run, tmp_path) for run in runs] == [1, 0, 1]


def test_acquire_run_whose_folder_is_locked_is_refused(tmp_path: Path) -> None:
    """The sweep was killed, and the process of its run still writes a checkpoint."""
    (run,) = grid(seeds=1)
    path = tmp_path / run.path
    status = RunStatus(run, tmp_path, time.monotonic)
    with RunFolder.create(path, run.config) as folder:
        folder.begin(run.config)
        assert acquire_run(RunFolder(path)) is None and status.is_locked()
        assert survey_of([run], tmp_path).runs[0].state is State.ELSEWHERE
    lock = acquire_run(RunFolder(path))
    assert lock is not None and status.is_locked()
    lock.release()
    assert not status.is_locked()


def sweep_of_another(run: PlannedRun, folder: Path) -> None:
    child = subprocess.Popen(stub_command({}, 0.0)(run, folder), stdin=subprocess.PIPE)
    assert child.wait(PATIENCE) == 0
    assert child.stdin is not None
    child.stdin.close()


def test_scheduler_two_sweeps_share_a_folder(tmp_path: Path) -> None:
    runs = grid(seeds=3)
    root = Path(__file__).parents[2]
    program = [sys.executable, "-m", "tests.helpers.sweeps", str(tmp_path), "1", "0.03"]
    other = subprocess.Popen(program, cwd=root)
    wait_for(lambda: launches(runs[0], tmp_path))
    status, _ = sweep(runs, tmp_path, workers=1, pause=0.03)
    assert other.wait(PATIENCE) == 0
    assert status.counts() == {State.DONE: 3}
    assert [starts(run, tmp_path) for run in runs] == [1, 1, 1]


def test_scheduler_leaves_duplicates_out(tmp_path: Path) -> None:
    """With discrete actions the preset's agent has Reinforce gradients only, and so that ablation is itself."""
    runs = grid(variants=("full", "reinforce-only"), seeds=1)
    status, _ = sweep(runs, tmp_path)
    assert [each.state for each in status.runs] == [State.DONE, State.DUPLICATE]
    assert starts(runs[1], tmp_path) == 0


def test_scheduler_removes_the_replay_of_what_is_done(tmp_path: Path) -> None:
    runs = grid(seeds=2)
    sweep(runs[:1], tmp_path)
    assert (tmp_path / runs[0].path / "replay.db").exists()
    sweep(runs, tmp_path, how={}, keep_replay=False)
    assert not (tmp_path / runs[1].path / "replay.db").exists()


def state_of(run: PlannedRun, folder: Path) -> State:
    status = RunStatus(run, folder, time.monotonic)
    status.read()
    return status.state


def test_read_done_is_what_the_folder_says(tmp_path: Path) -> None:
    """A row of the planned steps and a checkpoint of them; or that row, where all checkpoints were removed."""
    (run,) = grid(seeds=1)
    assert state_of(run, tmp_path) is State.WAITING
    sweep([run], tmp_path)
    checkpoints = tmp_path / run.path / "checkpoints"
    assert state_of(run, tmp_path) is State.DONE
    (checkpoints / f"step-{STEPS:09d}").rename(checkpoints / f"step-{STEPS - 10:09d}")
    assert state_of(run, tmp_path) is State.WAITING
    (checkpoints / f"step-{STEPS - 10:09d}").rmdir()
    assert state_of(run, tmp_path) is State.DONE
    metrics = tmp_path / run.path / "metrics.jsonl"
    metrics.write_text("\n".join(metrics.read_text().splitlines()[:-1]) + "\n")
    assert state_of(run, tmp_path) is State.WAITING

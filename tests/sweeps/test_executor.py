"""The executor with fake runs: each run once, failures survived, interruptions resumed, one sweep a folder."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reverie.analysis.runs import find_runs
from reverie.cli.main import main
from reverie.errors import ReverieError, RunError
from reverie.runs.metrics import read_metrics
from reverie.runs.run_folder import RunFolder
from reverie.runs.verify import verify
from reverie.sweeps import processes
from reverie.sweeps.executor import sweep_folder
from reverie.sweeps.planned_runs import planned_runs
from reverie.sweeps.processes import LOG
from reverie.sweeps.status import State
from reverie.training.stop_signal import Interrupted
from tests.helpers.sweeps import (
    PATIENCE,
    STEPS,
    grid,
    is_alive,
    launches,
    plan,
    replace_settings,
    run_sweep,
    send_when,
    spec_of,
    starts,
    status_of,
    stub_command,
    survey_of,
    wait_for,
)


def start_other(folder: Path, pause: float) -> "subprocess.Popen[bytes]":
    """Start a sweep of `grid()` with two workers, in a process of its own."""
    program = [sys.executable, "-m", "tests.helpers.sweeps", str(folder), "2", str(pause)]
    return subprocess.Popen(program, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE)


def test_execute_runs_each_run_once(tmp_path: Path) -> None:
    runs = grid(envs=("A-v0", "B-v0"), variants=("full", "no-gru-norm"), seeds=2)
    sweep, said = run_sweep(runs, tmp_path)
    assert len(sweep.of(State.DONE)) == 8
    assert "A-v0 full seed 0 begins\n" in said and "A-v0 full seed 0 is done: last score 200\n" in said
    assert said.rstrip().endswith("fake: 8 done")
    sweep, said = run_sweep(runs, tmp_path)
    assert len(sweep.of(State.DONE)) == 8 and "begins" not in said
    assert [starts(run, tmp_path) for run in runs] == [1] * 8


def test_execute_larger_plan_runs_only_what_is_new(tmp_path: Path) -> None:
    run_sweep(grid(seeds=1), tmp_path)
    runs = grid(envs=("A-v0", "B-v0"), seeds=2)
    run_sweep(runs, tmp_path)
    assert {run.name: starts(run, tmp_path) for run in runs} == {run.name: 1 for run in runs}


def test_execute_more_steps_continue_and_other_settings_are_refused(tmp_path: Path) -> None:
    run_sweep(grid(seeds=1), tmp_path)
    longer = planned_runs(replace_settings(plan(seeds=1), {"training.steps": 2 * STEPS}), spec_of)
    run_sweep(longer, tmp_path)
    found = [(launch.what, launch.step) for launch in launches(longer[0], tmp_path)]
    assert found == [("start", 0), ("end", STEPS), ("start", STEPS), ("end", 2 * STEPS)]
    other = {"world_model.kl.scale": 0.3, "training.steps": 2 * STEPS}
    with pytest.raises(RunError, match=r"A-v0/full/seed-0 .*world_model.kl.scale was 1 and is now 0.3.*--out"):
        survey_of(planned_runs(replace_settings(plan(seeds=1), other), spec_of), tmp_path)
    with pytest.raises(RunError, match=r"training.steps was 400 and is now 200"):
        survey_of(grid(seeds=1), tmp_path)


def test_execute_keeps_to_the_number_of_workers(tmp_path: Path) -> None:
    """At no time do more runs run than there are workers, and at some time there are as many."""
    runs = grid(seeds=5)
    run_sweep(runs, tmp_path, workers=3, pause=0.01)
    events = [(each.time, 1 if each.what == "start" else -1) for run in runs for each in launches(run, tmp_path)]
    running = [sum(change for _, change in sorted(events)[: number + 1]) for number in range(len(events))]
    assert max(running) == 3


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("fails", "The motor is on fire."),
        ("crashes", "ended by SIGSEGV"),
        ("leaves", "it ended before its planned steps"),
        ("fails silently", "exit status 3, without output"),
    ],
)
def test_execute_failing_run_does_not_stop_the_others(tmp_path: Path, how: str, words: str) -> None:
    runs = grid(seeds=4)
    bad = runs[1]
    sweep, said = run_sweep(runs, tmp_path, how={bad.name: how})
    assert len(sweep.of(State.DONE)) == 3 and [status.error for status in sweep.of(State.FAILED)] == [words]
    assert f"{bad.name} failed: {words}\n" in said
    assert (words in (tmp_path / bad.path / LOG).read_text()) == (how == "fails")
    # It is tried again by the next call, and only it.
    sweep, _ = run_sweep(runs, tmp_path)
    assert len(sweep.of(State.DONE)) == 4
    assert [starts(run, tmp_path) for run in runs] == [1, 2, 1, 1]


def test_execute_run_that_cannot_be_started_fails(tmp_path: Path) -> None:
    """Here the disk is full: nothing can be written to the log of one run."""
    runs = grid(seeds=2)
    (tmp_path / runs[0].path).mkdir(parents=True)
    (tmp_path / runs[0].path / LOG).symlink_to("/dev/full")
    sweep, _ = run_sweep(runs, tmp_path)
    assert [status.state for status in sweep.runs] == [State.FAILED, State.DONE]
    assert "No space left on device" in sweep.runs[0].error


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with 24 MiB, of which the file `other` takes all but 3 MiB."""
    if not hasattr(os, "geteuid") or os.geteuid():
        pytest.skip("mounts a file system, which needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounts a file system, which is not allowed here")
    (tmp_path / "other").write_bytes(bytes(21 << 20))
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_sweep_on_a_full_disk_says_so_and_continues_with_space(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_disk / "plan.toml").write_text("""
        name = "full"
        preset = "vector"
        environments = ["CartPole-v1"]
        seeds = [0, 1]
        workers = 2
        threads = 1
        [settings]
        training = {steps = 60, prefill = 40, pretrain = 1, train_every = 20, eval_every = 0}
    """)
    command = ["sweep", str(small_disk / "plan.toml"), "--out", str(small_disk / "out")]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "2 of 2 runs failed" in said and ("disk is full" in said or "No space left on device" in said)
    assert "Type the command again" in said
    (small_disk / "other").unlink()
    assert main(command) == 0
    assert "full: 2 done" in capsys.readouterr().out
    for path in (small_disk / "out" / "CartPole-v1" / "full").iterdir():
        assert not verify(path).damage and int(read_metrics(path)[-1]["step"]) == 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_execute_stopped_runs_save_and_continue(tmp_path: Path, number: int) -> None:
    runs = grid(seeds=3)
    send_when(lambda: all((tmp_path / run.path / "metrics.jsonl").exists() for run in runs[:2]), number)
    with pytest.raises(Interrupted) as stopped:
        run_sweep(runs, tmp_path, pause=0.05)
    assert stopped.value.signal == number
    saved = []
    for run in runs[:2]:
        begun, ended = launches(run, tmp_path)
        assert (begun.what, ended.what) == ("start", "stop")
        assert 0 < ended.step < STEPS
        assert status_of(run, tmp_path).state is State.WAITING
        saved.append(ended.step)
    assert starts(runs[2], tmp_path) == 0
    sweep, said = run_sweep(runs, tmp_path)
    assert len(sweep.of(State.DONE)) == 3
    assert f"{runs[0].name} continues at step {saved[0]}\n" in said
    assert [launches(run, tmp_path)[2].step for run in runs[:2]] == saved


def test_execute_runs_that_ignore_signals_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    (run,) = grid(seeds=1)
    send_when(lambda: (tmp_path / run.path / "metrics.jsonl").exists(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        run_sweep([run], tmp_path, how={run.name: "deaf"}, pause=0.1)
    (start,) = launches(run, tmp_path)
    assert not is_alive(start.pid)


def test_execute_own_error_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = grid(seeds=1)

    def table(*_: object) -> str:
        if launches(run, tmp_path):
            raise RuntimeError("a bug")
        return ""

    monkeypatch.setattr("reverie.sweeps.executor.status_table", table)
    with pytest.raises(RuntimeError, match="a bug"):
        run_sweep([run], tmp_path, how={run.name: "hangs"})
    assert not is_alive(launches(run, tmp_path)[0].pid)


def test_execute_killed_leaves_no_process_and_the_next_call_continues(tmp_path: Path) -> None:
    runs = grid()
    parent = start_other(tmp_path, 0.05)
    wait_for(lambda: all((tmp_path / run.path / "metrics.jsonl").exists() for run in runs[:2]))
    with (
        pytest.raises(RunError, match=r"Another sweep runs in .*Nothing was started"),
        sweep_folder(plan(), [], tmp_path),
    ):
        pass
    parent.kill()
    parent.communicate()
    pids = [launches(run, tmp_path)[0].pid for run in runs[:2]]
    wait_for(lambda: not any(map(is_alive, pids)))
    for run in runs[:2]:
        begun, ended = launches(run, tmp_path)
        assert (ended.what, ended.pid) == ("stop", begun.pid)
    with sweep_folder(plan(), runs, tmp_path):
        sweep, _ = run_sweep(runs, tmp_path)
    assert len(sweep.of(State.DONE)) == 3
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


def test_execute_waits_for_a_run_of_another_process(tmp_path: Path) -> None:
    """The process of a sweep that was killed still writes a checkpoint, for example."""
    runs = grid(seeds=2)
    folder = RunFolder.create(tmp_path / runs[0].path, runs[0].config)
    assert [status.state for status in survey_of(runs, tmp_path).runs] == [State.RUNNING, State.WAITING]

    def release() -> None:
        wait_for(lambda: starts(runs[1], tmp_path))
        folder.discard()
        folder.close()

    threading.Thread(target=release, daemon=True).start()
    sweep, _ = run_sweep(runs, tmp_path)
    assert [status.state for status in sweep.runs] == [State.DONE, State.DONE]
    assert launches(runs[0], tmp_path)[0].time > launches(runs[1], tmp_path)[0].time


def test_survey_leaves_duplicates_out(tmp_path: Path) -> None:
    """With discrete actions the preset's agent has Reinforce gradients only, and so that ablation is itself."""
    runs = grid(variants=("full", "reinforce-only"), seeds=1)
    assert [status.run.variant for status in survey_of(runs, tmp_path).runs] == ["full"]


def test_execute_removes_the_replay_of_what_is_done(tmp_path: Path) -> None:
    runs = grid(seeds=2)
    run_sweep(runs[:1], tmp_path)
    assert (tmp_path / runs[0].path / "replay.db").exists()
    run_sweep(runs, tmp_path, keep_replay=False)
    assert not (tmp_path / runs[1].path / "replay.db").exists()


def test_sweep_folder_of_a_run_or_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (run,) = grid(seeds=1)
    run_sweep([run], tmp_path)
    (tmp_path / "file").write_text("")
    cases = {tmp_path / run.path: "holds a run and not a sweep", tmp_path / "file": "cannot be written"}
    for folder, words in cases.items():
        with pytest.raises(ReverieError, match=words), sweep_folder(plan(), [run], folder):
            pass


def test_read_done_is_what_the_folder_says(tmp_path: Path) -> None:
    """A row of the planned steps and a checkpoint of them; or that row, where all checkpoints were removed."""
    (run,) = grid(seeds=1)
    assert status_of(run, tmp_path).state is State.WAITING
    run_sweep([run], tmp_path)
    checkpoints = tmp_path / run.path / "checkpoints"
    assert status_of(run, tmp_path).state is State.DONE
    (checkpoints / f"step-{STEPS:09d}").rename(checkpoints / f"step-{STEPS - 10:09d}")
    assert status_of(run, tmp_path).state is State.WAITING
    (checkpoints / f"step-{STEPS - 10:09d}").rmdir()
    assert status_of(run, tmp_path).state is State.DONE
    metrics = tmp_path / run.path / "metrics.jsonl"
    metrics.write_text("\n".join(metrics.read_text().splitlines()[:-1]) + "\n")
    assert status_of(run, tmp_path).state is State.WAITING


def test_find_runs_leaves_out_what_was_dropped_from_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A seed that is taken from the plan stays on the disk; the next start of the sweep drops it, and lists name it."""
    monkeypatch.chdir(tmp_path)
    folder, runs = Path("runs/fake"), grid(variants=("full", "no-gru-norm"), seeds=3)
    for kept in (runs, runs[:2], runs[:2]):
        with sweep_folder(plan(), kept, folder):
            run_sweep(kept, folder)
    found, left_out = find_runs([folder])
    assert sorted(str(run.path) for run in found) == sorted(str(folder / run.path) for run in runs[:2])
    assert sorted(each.path for each in left_out) == sorted(folder / run.path for run in runs[2:])
    assert main(["list", "runs", "runs"]) == 0
    said = capsys.readouterr().err
    assert "runs/fake/A-v0/full/seed-2 is left out. The plan of its sweep does not name it any more.\n" in said
    # Named by itself it is read.
    assert [run.seed for run in find_runs([folder / runs[4].path])[0]] == [2]

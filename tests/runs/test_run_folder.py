"""Run folders: one writer at a time, nothing overwritten, every refusal with the words to type."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from reverie.config import Config, to_toml
from reverie.errors import CheckpointError, RunError
from reverie.runs.checkpoint import Snapshot, read_checkpoint, write_checkpoint
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.locks import acquire_lock
from reverie.runs.run_folder import RunFolder, find_checkpoint

SOURCE = Path(__file__).parents[2] / "src"
CONFIG = Config().for_env("CartPole-v1")
SNAPSHOT = Snapshot({"agent": {"w": torch.ones(2)}}, {"updates": 1})


def run_with_checkpoint(path: Path, steps: tuple[int, ...] = (5,)) -> Checkpoints:
    with RunFolder.create(path, CONFIG) as run:
        run.begin(CONFIG)
        store = Checkpoints(path / "checkpoints", 3)
        for step in steps:
            store.save(step, SNAPSHOT)
        return store


# Starting and resuming


def test_a_new_folder(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "runs" / "pong", CONFIG) as run:
        assert not run.resumed
        assert sorted(path.name for path in run.path.iterdir()) == [".lock", "lock.json"]
        run.begin(CONFIG)
        assert run.saved_config() == CONFIG
        for folder in (run.tensorboard, run.checkpoints, run.videos):
            assert folder.is_dir()
        owner = json.loads((run.path / "lock.json").read_text())
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_only_foreign_files_can_be_used(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "slurm.log").write_text("x")
    with RunFolder.create(tmp_path, CONFIG, resume) as run:
        assert not run.resumed


def test_a_used_folder_is_refused_with_the_words_to_type(tmp_path: Path) -> None:
    run_with_checkpoint(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(RunError, match=r"already holds a run. Type --resume .* or choose another --logdir"):
        RunFolder.create(tmp_path, CONFIG.override(seed=3))
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    assert before == after
    with RunFolder.create(tmp_path, CONFIG, resume=True):  # the refusal gave the lock back
        pass


@pytest.mark.parametrize("name", ["metrics.jsonl", "replay.db", "videos/1.gif", "config.toml"])
def test_any_result_makes_a_folder_used(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(RunError, match="already holds a run"):
        RunFolder.create(tmp_path, CONFIG)


def test_resume_keeps_the_run(tmp_path: Path) -> None:
    run_with_checkpoint(tmp_path)
    given = CONFIG.override(steps=70_000, **{"world_model.kl.scale": 0.5})
    with RunFolder.create(tmp_path, given, resume=True) as run:
        assert run.resumed
        assert run.saved_config() == CONFIG


def test_resume_of_a_run_that_never_got_anywhere_starts_afresh(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, CONFIG) as run:
        run.begin(CONFIG)
    (tmp_path / "metrics.jsonl").touch()
    given = CONFIG.override(seed=3)
    with RunFolder.create(tmp_path, given, resume=True) as run:
        assert not run.resumed
        run.begin(given)
        assert run.saved_config() == given


def test_resume_without_checkpoint_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "my run"
    with RunFolder.create(path, CONFIG) as run:
        run.begin(CONFIG)
    (path / "metrics.jsonl").write_text("{}\n")
    (path / "replay.db").write_bytes(b"x" * 4096)
    with pytest.raises(RunError) as caught:
        RunFolder.create(path, CONFIG, resume=True)
    assert "it has metrics.jsonl and replay.db but no checkpoint" in str(caught.value)
    assert "Type --overwrite to start from the beginning" in str(caught.value)
    assert (path / "metrics.jsonl").read_text() == "{}\n"


def test_resume_without_config_is_explained(tmp_path: Path) -> None:
    run_with_checkpoint(tmp_path)
    (tmp_path / "config.toml").unlink()
    with pytest.raises(RunError, match=r"config\.toml is missing"):
        RunFolder.create(tmp_path, CONFIG, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_saved_agent_is_not_trained_over(tmp_path: Path, resume: bool) -> None:
    write_checkpoint(tmp_path / "agent", 5, SNAPSHOT)
    with pytest.raises(RunError, match="saved agent"):
        RunFolder.create(tmp_path / "agent", CONFIG, resume)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot be written .*choose another --logdir"):
        RunFolder.create("/proc/run", CONFIG)
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match=r"cannot be written \(.*choose another --logdir"):
            RunFolder.create(path, CONFIG)


# Replacing a run


def test_create_overwrite_replaces_the_run_and_keeps_other_files(tmp_path: Path) -> None:
    run_with_checkpoint(tmp_path)
    for name in ("metrics.jsonl", "about.json", "trackers.json", "videos/old.gif", "failures/update-1/state.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    given = CONFIG.override(seed=3)
    with RunFolder.create(tmp_path, given, overwrite=True) as run:
        assert not run.resumed
        assert Checkpoints(run.checkpoints).latest() is not None  # nothing is removed before `begin`
        run.begin(given)
        assert run.saved_config() == given
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [".lock", "config.toml", "notes.txt"]
    assert not any(run.checkpoints.iterdir())


def test_create_overwrite_refused_before_begin_keeps_the_run(tmp_path: Path) -> None:
    run_with_checkpoint(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with RunFolder.create(tmp_path, CONFIG, overwrite=True) as run:
        run.discard()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_create_overwrite_failed_before_the_first_checkpoint_leaves_no_run(tmp_path: Path) -> None:
    run_with_checkpoint(tmp_path / "run")
    with RunFolder.create(tmp_path / "run", CONFIG, overwrite=True) as run:
        run.begin(CONFIG)
        run.discard()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_create_overwrite_removes_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    run_with_checkpoint(tmp_path / "run")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "photo").touch()
    (tmp_path / "run" / "videos").rmdir()
    (tmp_path / "run" / "videos").symlink_to(tmp_path / "disk")
    with RunFolder.create(tmp_path / "run", CONFIG, overwrite=True) as run:
        run.begin(CONFIG)
        assert not run.videos.is_symlink()
    assert (tmp_path / "disk" / "photo").exists()


def test_create_overwrite_and_resume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--resume continues a run and --overwrite replaces it"):
        RunFolder.create(tmp_path / "run", CONFIG, resume=True, overwrite=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("held_by", ["a run", "an agent"])
def test_create_overwrite_refuses_a_folder_in_use_and_a_saved_agent(tmp_path: Path, held_by: str) -> None:
    run_with_checkpoint(tmp_path)
    if held_by == "an agent":
        write_checkpoint(tmp_path / "agent", 5, SNAPSHOT)
        with pytest.raises(RunError, match="saved agent"):
            RunFolder.create(tmp_path / "agent", CONFIG, overwrite=True)
    else:
        with RunFolder.hold(tmp_path), pytest.raises(RunError, match="is in use by process"):
            RunFolder.create(tmp_path, CONFIG, overwrite=True)
    assert Checkpoints(tmp_path / "checkpoints").latest() is not None


# The lock


@contextmanager
def other_process(path: Path, after: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that opens a run and holds it until its input ends."""
    code = (
        "import sys; from pathlib import Path\n"
        "from reverie.config import Config; from reverie.runs.run_folder import RunFolder\n"
        f"run = RunFolder.create(Path({str(path)!r}), Config(), resume=True)\nrun.begin(Config())\n{after}\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_two_processes_are_kept_apart_and_a_killed_one_does_not_block(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        for resume in (False, True):
            with pytest.raises(RunError) as caught:
                RunFolder.create(tmp_path, CONFIG, resume)
            assert f"in use by process {process.pid} on {socket.gethostname()} since 2" in str(caught.value)
        RunFolder(tmp_path).saved_config()  # reading needs no lock
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == process.pid
        with RunFolder.create(tmp_path, CONFIG, resume=True):
            assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()


def test_a_worker_that_outlives_its_killed_parent_does_not_block(tmp_path: Path) -> None:
    fork = "import os, time\nchild = os.fork()\nif not child: print(os.getpid(), flush=True), time.sleep(60)\n"
    (tmp_path / "run").mkdir()
    fork = fork.replace("print(os.getpid(), flush=True)", f"Path({str(tmp_path / 'child')!r}).write_text('x')")
    fork += f"while not Path({str(tmp_path / 'child')!r}).exists(): time.sleep(0.01)\n"
    fork += f"Path({str(tmp_path / 'pid')!r}).write_text(str(child))"
    with other_process(tmp_path / "run", fork) as process:
        child = int((tmp_path / "pid").read_text())
        try:
            with pytest.raises(RunError, match=f"process {process.pid} "):  # closing in the child freed nothing
                RunFolder.create(tmp_path / "run", CONFIG, resume=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
            os.kill(child, 0)  # it lives
            RunFolder.create(tmp_path / "run", CONFIG, resume=True).close()
        finally:
            os.kill(child, signal.SIGKILL)


def test_close_without_begin_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, CONFIG).close()
    assert list(tmp_path.iterdir()) == []
    with RunFolder.create(tmp_path, CONFIG) as run:
        run.begin(CONFIG)
    assert not (tmp_path / "lock.json").exists()
    RunFolder.create(tmp_path, CONFIG, resume=True).close()
    assert (tmp_path / ".lock").exists()


def test_is_locked_follows_the_lock_and_leaves_it_free(tmp_path: Path) -> None:
    run_with_checkpoint(tmp_path)
    assert not RunFolder(tmp_path).is_locked()
    with RunFolder.hold(tmp_path):
        assert RunFolder(tmp_path).is_locked()
    assert not RunFolder(tmp_path).is_locked()
    assert not RunFolder(tmp_path / "nowhere").is_locked()
    (tmp_path / ".lock").unlink()
    RunFolder.hold(tmp_path).close()
    assert not (tmp_path / ".lock").exists()


def test_a_file_system_without_locks_uses_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = acquire_lock(tmp_path / "lock")
    assert lock is not None and acquire_lock(tmp_path / "lock") is None
    lock.release()
    again = acquire_lock(tmp_path / "lock")
    assert again is not None
    again.release()


def test_one_process_cannot_open_a_run_twice(tmp_path: Path) -> None:
    with (
        RunFolder.create(tmp_path, CONFIG),
        pytest.raises(RunError, match=f"in use by process {os.getpid()}"),
    ):
        RunFolder.create(tmp_path, CONFIG, resume=True)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"pid": "x"}', '{"pid": 3}'])
def test_an_owner_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    with RunFolder.create(tmp_path, CONFIG):
        (tmp_path / "lock.json").write_text(text)
        with pytest.raises(RunError, match="in use by another process"):
            RunFolder.create(tmp_path, CONFIG, resume=True)


# Finding


def test_find_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = run_with_checkpoint(tmp_path / "run", (5, 6))
    store.save(7, SNAPSHOT, score=1.0)
    run, (five, _, seven) = tmp_path / "run", store.list()
    expected = {
        run: seven,
        run / "config.toml": seven,
        run / "checkpoints": seven,
        five: five,
        five / "tensors.safetensors": five,
        run / "checkpoints" / "best": run / "checkpoints" / "best",
    }
    for path, checkpoint in expected.items():
        assert find_checkpoint(path) == checkpoint
    monkeypatch.chdir(five)
    assert find_checkpoint(".") == find_checkpoint("../" + five.name) == five
    agent = tmp_path / "agent"
    write_checkpoint(agent, 5, SNAPSHOT)
    assert find_checkpoint(agent) == find_checkpoint(agent / "manifest.json") == agent
    write_checkpoint(run / "mine" / "agent", 5, SNAPSHOT)  # in the run's folder, but not one of its checkpoints
    assert find_checkpoint(run / "mine" / "agent") == run / "mine" / "agent"
    (run / "config.toml").unlink()
    assert find_checkpoint(run) == seven


def test_find_checkpoint_leaves_damage_to_the_reader(tmp_path: Path) -> None:
    store = run_with_checkpoint(tmp_path, (5, 6))
    (store.list()[1] / "manifest.json").unlink()
    for path in (tmp_path, store.list()[1]):
        found = find_checkpoint(path)
        assert found == store.list()[1]
        with pytest.raises(
            CheckpointError,
            match=r"manifest\.json is missing; .* --repair` puts it aside, and --resume .* step-000000005",
        ):
            read_checkpoint(found)


def test_find_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is nothing at"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"not the folder of a run.*no config\.toml"):
        find_checkpoint(tmp_path)
    (tmp_path / "config.toml").write_text(to_toml(CONFIG))
    with pytest.raises(CheckpointError, match=r"has no checkpoint yet: there is no .*checkpoints/step-\*"):
        find_checkpoint(tmp_path)

"""What goes wrong while training, typed as a user would: one sentence, a status, and nothing lost."""

import errno
import hashlib
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import reverie
from reverie.cli import main as cli
from reverie.config import load_config
from reverie.envs.registry import SUITES
from reverie.runs import checkpoint
from reverie.runs.checkpoint import read_checkpoint
from reverie.runs.metrics import read_metrics
from reverie.runs.run_folder import RunFolder
from reverie.training.display import Display

SETTINGS = (
    "--preset debug --steps 160 --prefill 60 --train-every 40 --log-every 50 --eval-every 0 --checkpoint-every 40 "
    "--env.time-limit 0"
)
FAULT_AT = 70
"""Environment step at which something goes wrong: learning has begun, and there is a checkpoint of step 61."""
SOURCE = Path(cli.__file__).parents[2]


class Fragile(gymnasium.Env[np.ndarray[Any, Any], int]):
    """Episodes of 20 steps; `fault` is called at one step and may change what that step returns."""

    fault: ClassVar[Callable[[list[Any]], None] | None] = None
    count: ClassVar[int] = 0

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start again."""
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: int) -> Any:
        """Count, or go wrong."""
        self.steps += 1
        Fragile.count += 1
        result = [np.full(3, self.steps / 20, np.float32), 1.0, self.steps == 20, False, {}]
        if Fragile.count == FAULT_AT and Fragile.fault is not None:
            Fragile.fault(result)
        return tuple(result)


class Strange(Fragile):
    """A space that nobody can read."""

    observation_space = spaces.Sequence(spaces.Discrete(2))  # type: ignore[assignment]


class Mute(Fragile):
    """A space that nobody can act in."""

    action_space = spaces.Text(3)  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Environments by name, and an empty folder to work in."""
    for kind in (Fragile, Strange, Mute):
        gymnasium.register(f"{kind.__name__}-v0", entry_point=kind)
        gymnasium.register(f"Other{kind.__name__}-v0", entry_point=kind)
    monkeypatch.setattr(Fragile, "count", 0)
    monkeypatch.setattr(Fragile, "fault", None)
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("Fragile", "Strange", "Mute"):
        del gymnasium.registry[f"{name}-v0"], gymnasium.registry[f"Other{name}-v0"]


Type = Callable[..., str]


@pytest.fixture
def type_(capsys: pytest.CaptureFixture[str]) -> Type:
    """Type a command that ends with a status; gives what it says on standard error, one line or nothing."""

    def _type(line: str, status: int = 0) -> str:
        assert cli.main(shlex.split(line)) == status
        err = capsys.readouterr().err
        assert err.count("\n") == (status != 0), err
        assert "Traceback" not in err
        if status in (1, 2):
            assert err.startswith("error: ")
        return err

    return _type


def train(more: str = "", environment: str = "Fragile-v0") -> str:
    return f"train {environment} {SETTINGS} --logdir run {more}"


def content(folder: Path) -> dict[str, str]:
    """Digest of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def goes_on(type_: Type, more: str = "") -> None:
    """The run in the folder is resumed, by name and folder alone, and comes to its end."""
    Fragile.fault = None
    assert type_(f"train Fragile-v0 --logdir run --resume {more}") == ""
    assert reverie.load("run").agent_steps == 160
    steps = [row["step"] for row in read_metrics(Path("run"))]
    assert steps == sorted(steps)


# Before anything is trained: the folder stays as unused as it was


@pytest.mark.parametrize(
    ("environment", "more", "words"),
    [
        ("Fragil-v0", "", "There is no environment 'Fragil-v0'; did you mean Fragile-v0"),
        ("Strange-v0", "", r"the observation space Sequence is not supported"),
        ("Mute-v0", "", r"the action space Text is not supported"),
        pytest.param(
            "Fragile-v0",
            "--device cuda",
            "no CUDA device here; use --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_a_start_that_fails_leaves_no_folder(type_: Type, environment: str, more: str, words: str) -> None:
    assert re.search(words, type_(train(more, environment), 1))
    assert not Path("run").exists()
    # So the corrected command needs no other words.
    type_(train())


def test_a_start_that_fails_leaves_other_files_alone(type_: Type) -> None:
    Path("run").mkdir()
    Path("run/slurm.log").write_text("x")
    type_(train(environment="Strange-v0"), 1)
    assert [path.name for path in Path("run").iterdir()] == ["slurm.log"]


def test_what_to_install_is_said(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = next(suite for suite in SUITES if suite.title == "MiniGrid")
    monkeypatch.setitem(sys.modules, suite.requires, None)  # as if it were not installed
    assert suite.install in type_(train(environment=f"{suite.prefixes[0]}x-v0"), 1)


# Environments that fail after a while


def raise_error(result: list[Any]) -> None:
    raise ValueError("the motor\nis on fire")


def leave(result: list[Any]) -> None:
    sys.exit(3)


def put(index: int, value: Any) -> Callable[[list[Any]], None]:
    def fault(result: list[Any]) -> None:
        result[index] = value

    return fault


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (raise_error, r"it raised ValueError: the motor is on fire \(.*test_mistakes\.py:\d+\)"),
        (leave, "it raised SystemExit: 3"),
        (put(0, np.array([0, np.nan, 0], np.float32)), "observation 'vector' contains NaN"),
        (put(1, float("nan")), "the reward is nan"),
        (put(0, np.zeros(4, np.float32)), r"observation 'vector' has shape \(4,\), but the space says \(3,\)"),
        (put(0, np.array(["a", "b", "c"])), "observation 'vector' has dtype <U1, but the space says float32"),
    ],
)
def test_a_broken_environment(type_: Type, fault: Callable[[list[Any]], None], words: str) -> None:
    Fragile.fault = fault
    err = type_(train(), 1)
    assert re.search(rf"error: Environment Fragile-v0, episode 4, step 10: {words}", err)
    saved = reverie.load("run")
    assert saved.agent_steps == FAULT_AT - 1
    assert saved.updates > 0
    if fault is raise_error:
        goes_on(type_)


def test_weights_that_are_not_finite_are_not_saved(type_: Type) -> None:
    err = type_(train("--world-model.optimizer.lr 1e30"), 1)
    assert re.search(r"not finite|diverged", err)
    for folder in Path("run/checkpoints").glob("step-*"):
        weights = read_checkpoint(folder)[1].tensors["weights"].values()
        assert all(bool(weight.isfinite().all()) for weight in weights)
    goes_on(type_, "--world-model.optimizer.lr 1e-4")


# Replay


def test_a_batch_longer_than_any_episode(type_: Type) -> None:
    err = type_(train("--replay.sampling episodes --replay.batch-length 40"), 1)
    assert "replay.batch_length=40 is too long for all of the 3 finished episodes" in err
    assert reverie.load("run").agent_steps == 60
    goes_on(type_, "--replay.batch-length 10")


def test_episodes_that_never_end_are_said(type_: Type, capsys: pytest.CaptureFixture[str]) -> None:
    argv = shlex.split(train("--replay.sampling episodes", "CartPole-v1").replace("--env.time-limit 0", ""))
    assert cli.main([*argv, "--env.time-limit", "100000", "--replay.batch-length", "10"]) == 0
    capsys.readouterr()
    shutil.rmtree("run")
    # Pendulum has no end but its time limit.
    argv[1] = "Pendulum-v1"
    assert cli.main([*argv, "--env.time-limit", "100000"]) == 1
    captured = capsys.readouterr()
    assert "No episode has ended in 60 steps" in captured.out
    assert "set replay.sampling=steps" in captured.err


# Checkpoints


def test_missing_checkpoints(type_: Type) -> None:
    assert "There is nothing at run" in type_("eval run", 1)
    type_(train())
    shutil.rmtree("run/checkpoints")
    assert "The run run has no checkpoint yet" in type_("eval run", 1)
    before = content(Path("run"))
    err = type_("train Fragile-v0 --logdir run --resume", 1)
    assert "no checkpoint" in err
    assert "Type --overwrite to start from the beginning" in err
    assert content(Path("run")) == before


def test_a_damaged_checkpoint(type_: Type) -> None:
    type_(train())
    newest = max(Path("run/checkpoints").glob("step-*"))
    weights = newest / "tensors.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    before = content(Path("run"))
    err = type_("train Fragile-v0 --logdir run --resume", 1)
    assert content(Path("run")) == before
    assert "tensors.safetensors does not have its checksum" in err
    assert "rm -r" not in err
    (repair,) = re.findall("`reverie (.*?)`", err)
    assert "run --repair` puts it aside" in type_("eval run", 1)
    type_(repair)
    assert reverie.load("run").agent_steps < 160
    goes_on(type_)


# Folders


def test_a_folder_in_use(type_: Type) -> None:
    type_(train())
    before = content(Path("run"))
    with RunFolder.create("run", load_config("run/config.toml"), resume=True):
        for more in ("", "--resume"):
            assert f"in use by process {os.getpid()} on " in type_(train(more), 1)
        type_("eval run --episodes 1")
    assert "Type --resume to continue it" in type_(train(), 1)
    assert content(Path("run")) == before


# Resuming


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("OtherFragile-v0", "The run in run is of Fragile-v0 and cannot continue with OtherFragile-v0"),
        ("Fragile-v0 --world-model.rssm.deter 48", r"leave world_model\.rssm\.deter \(16 there\) as in its config"),
        ("Fragile-v0 --preset vector", r"other sizes: leave (.* \(\d+ there\), ){2}.* as in its config\.toml"),
    ],
)
def test_resuming_something_else_is_refused(type_: Type, line: str, words: str) -> None:
    type_(train())
    before = content(Path("run"))
    assert re.search(words, type_(f"train {line} --logdir run --resume --steps 2000", 1))
    assert content(Path("run")) == before


def test_resuming_with_other_settings(type_: Type) -> None:
    type_(train())
    more = "--steps 200 --env.num-envs 3 --env.parallel false --behavior.actor.entropy 0.01"
    type_(f"train Fragile-v0 --logdir run --resume {more}")
    assert 200 <= reverie.load("run").agent_steps <= 202
    saved = load_config("run/config.toml")
    assert (saved.training.steps, saved.env.num_envs, saved.behavior.actor.entropy) == (200, 3, 0.01)
    assert saved.training.train_every == 40  # still of the first command


# Full disks


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Sets how large files may become, until the test is over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_room_for_a_checkpoint(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as disk:
        Fragile.fault = lambda result: disk.setattr(checkpoint, "write_synced", full)
        err = type_(train(), 1)
    assert "The checkpoint of step 80 could not be written" in err
    assert "Earlier ones are intact. Free some space, then try again, a run with --resume" in err
    assert reverie.load("run").agent_steps == 60
    goes_on(type_)


def test_no_room_for_the_first_checkpoint(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as disk:
        disk.setattr(checkpoint, "write_synced", full)
        assert "Free some space, then try again" in type_(train(), 1)
    assert not Path("run").exists()
    type_(train())


def test_no_room_for_the_replay(type_: Type, file_limit: Callable[[int], None]) -> None:
    Fragile.fault = lambda result: file_limit(30_000)
    assert "run/replay.db cannot be read or written (disk I/O error). All earlier steps are" in type_(train(), 1)
    file_limit(resource.RLIM_INFINITY)
    goes_on(type_)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_no_room_for_metrics(type_: Type) -> None:
    Path("run").mkdir()
    Path("run/metrics.jsonl").symlink_to("/dev/full")
    assert "Cannot write run/metrics.jsonl (No space left on device)" in type_(train(), 1)
    assert reverie.load("run").agent_steps == 50
    Path("run/metrics.jsonl").unlink()
    goes_on(type_)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_no_room_for_the_output() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "reverie.cli.main", "list", "presets"]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: The output could not be written (No space left on device); free some space.\n"


def test_a_closed_pipe_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # This is what rich does where the reader of a pipe has gone.
    def close(_: Display, step: int, *__: Any) -> None:
        if step == FAULT_AT:
            raise SystemExit(1)

    monkeypatch.setattr(Display, "update", close)
    assert cli.main(shlex.split(train())) == 1
    assert reverie.load("run").agent_steps == FAULT_AT


# Signals


def send(kind: signal.Signals, times: int) -> Callable[[list[Any]], None]:
    def fault(result: list[Any]) -> None:
        for _ in range(times):
            os.kill(os.getpid(), kind)

    return fault


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_once_saves(type_: Type, kind: signal.Signals) -> None:
    if kind != signal.SIGINT:
        signal.signal(kind, signal.SIG_DFL)  # nohup has it ignored, and reverie leaves that so
    Fragile.fault = send(kind, 1)
    err = type_(train(), 128 + kind)
    assert f"Stopped at step {FAULT_AT} and saved run/checkpoints/step-{FAULT_AT:09d}" in err
    assert reverie.load("run").agent_steps == FAULT_AT
    (words,) = re.findall("`reverie (.*?)`", err)
    type_(words)
    assert reverie.load("run").agent_steps == 160


def test_stopping_twice_stops_at_once(type_: Type) -> None:
    Fragile.fault = send(signal.SIGINT, 2)
    assert "Stopped at once, without a checkpoint" in type_(train(), 130)
    assert reverie.load("run").agent_steps == 60
    goes_on(type_)


def test_stopping_breaks_an_evaluation_off(type_: Type) -> None:
    # What follows the 60 steps of the prefill is the first evaluation.
    Fragile.fault = send(signal.SIGINT, 1)
    err = type_(train("--eval-episodes 1000").replace("--eval-every 0", "--eval-every 100"), 130)
    assert "Stopped at step 60" in err
    assert FAULT_AT <= Fragile.count <= FAULT_AT + 8

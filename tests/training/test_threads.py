"""Number of CPU threads: setting, then that of the resumed run, then the environment; restored after a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import reverie
from reverie.provenance import usable_cores
from reverie.runs.checkpoint import read_state
from reverie.runs.checkpoints import Checkpoints
from reverie.training.threads import act_on_one_thread, resolve_threads


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("setting", "recorded", "environment", "expected"),
    [
        *((3, 2, "5", 3), (3, None, "5", 3), (0, 2, "5", 2), (0, None, "5", 5), (0, None, "6,2", 6)),
        *((0, None, None, None), (0, None, "many", None), (0, None, "0", None)),
    ],
)
def test_resolve_threads_takes_setting_then_recorded_then_environment_then_cores(
    setting: int, recorded: int | None, environment: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    assert resolve_threads(setting, recorded) == (expected or usable_cores())


def test_train_resumed_keeps_the_threads_of_the_run_unless_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers: list[int] = []

    class Watch(reverie.Callback):
        def on_start(self, run: Any) -> None:
            numbers.append(torch.get_num_threads())

    settings = {"prefill": 20, "eval_every": 0, "env.parallel": False, "train_every": 20, "callbacks": [Watch()]}

    def train(steps: int, **more: Any) -> int:
        reverie.train("CartPole-v1", "debug", logdir=tmp_path, resume=True, steps=steps, **settings, **more)
        newest = Checkpoints(tmp_path / "checkpoints").latest()
        assert newest is not None
        threads: int = read_state(newest)["training"]["runtime"]["threads"]
        return threads

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert train(30) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert train(40) == 3
    assert "threads 3" not in capsys.readouterr().out
    assert train(50, threads=2) == 2
    assert "threads 3" in " ".join(capsys.readouterr().out.split())
    assert numbers == [3, 3, 2]
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("number", "expected"), [("8", 4), (None, 1)])
def test_act_on_one_thread_with_and_without_omp_num_threads_keeps_or_limits(
    number: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if number is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", number)
    act_on_one_thread()
    assert torch.get_num_threads() == expected

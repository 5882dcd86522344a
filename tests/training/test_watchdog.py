"""Silence is told, with what is waited for, and less and less often."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import reverie
from reverie.training import watchdog
from reverie.training.watchdog import Watchdog
from tests.environments import Counting


def test_it_tells_what_is_waited_for_and_then_less_often() -> None:
    now, told, times = [0.0], [], []
    dog = Watchdog(told.append, patience=60, clock=lambda: now[0])
    dog.wait_for("an update")
    for minute in range(0, 20):
        now[0] = 60.0 * minute
        for _ in range(2):
            before = len(told)
            dog.look()
            times += [minute] * (len(told) - before)
    assert times == [1, 2, 4, 8, 16]
    assert all(text.endswith("the run waits for an update.") for text in told)
    dog.wait_for("a batch")
    dog.look()
    assert len(told) == 5
    now[0] += 61
    dog.look()
    assert told[-1].endswith("the run waits for a batch.") and len(told) == 6


def test_a_run_whose_environment_is_slow_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "Watchdog", lambda tell: Watchdog(tell, patience=0.4))
    slow = []

    class Slow(Counting):
        def step(self, action: Any) -> Any:
            if len(slow) == 30:
                time.sleep(1.5)
            slow.append(1)
            return super().step(action)

    settings = {"steps": 60, "prefill": 40, "eval_every": 0, "video_every": 0, "train_every": 20, "pretrain": 0}
    reverie.train(lambda: Slow(10), "debug", logdir=tmp_path, **settings)
    text = " ".join(capsys.readouterr().out.split())
    assert "Nothing has happened for" in text and "the run waits for a step of the environments" in text
    assert not any(thread.name == "watchdog" for thread in threading.enumerate())

"""Messages about silence: what the run waits for, less and less often."""

import itertools
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import reverie
from reverie.training import build, evaluate, evaluation
from reverie.training.metrics import Metrics
from reverie.training.watchdog import EpisodeWatch, Watchdog
from tests.helpers.environments import Counting


def test_watchdog_without_progress_names_the_phase_less_and_less_often() -> None:
    now, messages, times = [0.0], [], []
    metrics = Metrics(lambda: now[0])
    watchdog = Watchdog(metrics, messages.append, patience=60)
    with metrics.timer("learn"):
        for minute in range(0, 20):
            now[0] = 60.0 * minute
            for _ in range(2):
                before = len(messages)
                watchdog.check()
                times += [minute] * (len(messages) - before)
    assert times == [1, 2, 4, 8, 16]
    assert all(text.endswith("the run waits for an update of the networks.") for text in messages)
    with metrics.timer("sample"):
        watchdog.check()
        assert len(messages) == 5
        now[0] += 61
        watchdog.check()
        assert messages[-1].endswith("the run waits for a batch from the replay.") and len(messages) == 6


def test_watchdog_phase_with_progress_is_not_reported() -> None:
    now, messages = [0.0], []
    metrics = Metrics(lambda: now[0])
    watchdog = Watchdog(metrics, messages.append, patience=60)
    with metrics.timer("evaluate"):
        for _ in range(10):
            now[0] += 40
            metrics.show_progress()
            watchdog.check()
    assert not messages


def test_train_slow_environment_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "Watchdog", partial(Watchdog, patience=0.4))
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


def watch_every_ten_seconds(steps: int, time_limit: int = 0, ends: tuple[int, ...] = ()) -> list[tuple[int, str]]:
    """Return the messages of so many steps of ten seconds each, with the step at which they came."""
    now, said, texts = [0.0], [], []
    watch = EpisodeWatch(texts.append, time_limit, patience=60, clock=lambda: now[0])
    for step in range(1, steps + 1):
        now[0] += 10
        watch.step(has_ended=step in ends)
        said += [(step, text) for text in texts]
        texts.clear()
    return said


def test_episode_watch_without_an_end_reports_at_growing_intervals() -> None:
    said = watch_every_ten_seconds(100)
    assert [step for step, _ in said] == [6, 12, 24, 48, 96]
    assert said[1][1] == (
        "No episode of the evaluation has ended in 12 steps (0:02:00). The evaluation waits for that. If none will "
        "end, stop, and set env.time_limit."
    )


def test_episode_watch_after_an_end_waits_again() -> None:
    said = watch_every_ten_seconds(30, ends=(5, 10, 17))
    assert [step for step, _ in said] == [16, 23, 29]
    assert "in 6 steps (0:01:00)" in said[0][1] and "in 12 steps (0:02:00)" in said[2][1]


def test_episode_watch_with_a_time_limit_names_it() -> None:
    assert watch_every_ten_seconds(6, time_limit=27_000)[0][1] == (
        "No episode of the evaluation has ended in 6 steps (0:01:00). env.time_limit ends each after 27,000."
    )


def let_each_reading_of_the_clock_take(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every `EpisodeWatch` a clock that advances whenever it is read."""
    clock = itertools.count(0, seconds).__next__
    monkeypatch.setattr(evaluation, "EpisodeWatch", partial(EpisodeWatch, clock=clock))


def test_train_evaluation_without_an_end_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_each_reading_of_the_clock_take(10, monkeypatch)
    settings = {"steps": 60, "prefill": 40, "eval_every": 60, "eval_episodes": 1, "video_every": 0}
    reverie.train(lambda: Counting(70), "debug", logdir=tmp_path, **{"env.time_limit": 0}, **settings)
    text = " ".join(capsys.readouterr().out.split())
    assert "No episode of the evaluation has ended in 6 steps (0:01:00)." in text and "set env.time_limit" in text
    assert "No episode of the evaluation has ended in 12 steps (0:02:00)." in text


def test_evaluate_without_an_end_reports_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 60, "prefill": 40, "eval_every": 0, "video_every": 0, "env.time_limit": 0}
    agent = reverie.train(lambda: Counting(30), "debug", logdir=tmp_path, **settings)
    capsys.readouterr()
    let_each_reading_of_the_clock_take(10, monkeypatch)
    assert [one.length for one in evaluate(agent, agent.config.env, 1, 0, lambda: Counting(30))] == [30]
    captured = capsys.readouterr()
    assert "No episode of the evaluation has ended in 6 steps (0:01:00)." in captured.err and not captured.out

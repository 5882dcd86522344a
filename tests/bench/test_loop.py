"""The short run that is measured, and how its rows of metrics are read."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch

from reverie.bench import loop
from reverie.config import PRESETS, preset
from reverie.runs.metrics import read_metrics


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, float]]]:
    """Rows of metrics that a run has written."""
    seen: list[dict[str, float]] = []

    def read(path: Any) -> list[dict[str, float]]:
        seen.extend(read_metrics(path))
        return list(seen)

    monkeypatch.setattr(loop, "read_metrics", read)
    yield seen


@pytest.mark.parametrize("settings", [{}, {"train_every": 3, "train_steps": 2}, {"env.num_envs": 2}])
def test_every_row_has_equally_many_updates(rows: list[dict[str, float]], settings: dict[str, Any]) -> None:
    config = preset("debug").for_env("CartPole-v1").override(**{"env.parallel": False, **settings})
    result = loop.measure_loop(config, "debug", updates=12)
    assert result["updates"] >= 12
    counts = len(result["frames_per_second_all"])
    updates = [row["updates"] for row in rows[-counts - 1 :]]
    (each,) = {after - before for before, after in pairwise(updates)}
    assert each * counts == result["updates"]
    assert rows[-counts - 1]["updates"] > 0  # what was not counted held updates


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("updates", [1, 7, 25])
def test_the_ratio_is_the_presets(name: str, updates: int) -> None:
    config, short = preset(name), loop.short_run(preset(name), name, updates)
    assert (short.training.train_every, short.training.train_steps) == (
        config.training.train_every,
        config.training.train_steps,
    )
    assert (short.world_model, short.behavior) == (config.world_model, config.behavior)
    assert (short.training.eval_every, short.training.video_every) == (0, 0)
    assert (short.training.pretrain, short.training.pretrain_world_model) == (0, 0)
    assert short.training.checkpoint_every > short.training.steps
    measured = short.training.steps - short.training.prefill - loop.WARM_UP * short.training.log_every
    assert measured % short.training.log_every == short.training.prefill % short.training.log_every == 0
    assert 1 <= measured // short.training.log_every <= loop.ROWS
    assert measured * config.training.train_steps >= updates * config.training.train_every


def test_its_threads_are_not_shared() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert loop.short_run(preset("debug"), "debug", 5).training.threads == 3
        assert loop.short_run(preset("debug").override(threads=2), "debug", 5).training.threads == 2
    finally:
        torch.set_num_threads(before)


def test_summary_of_rows() -> None:
    def row(step: int, updates: int, learn: float, **more: float) -> dict[str, float]:
        speed = {"perf/fps": 10.0 * step, "perf/updates_per_second": 1.0}
        return {"step": step, "updates": updates, "time/learn": 3.0, "time/learn_share": learn, **speed, **more}

    early = row(10, 4, 0.1)
    rows = [early, row(20, 6, 0.5), row(30, 8, 0.75, **{"time/anything_new_share": 0.125})]
    result = loop.summary(rows, first=10)
    assert result["updates"] == 4
    assert result["frames_per_second_all"] == [200.0, 300.0]
    assert result["learn_share_all"] == [0.5, 0.75]
    assert result["anything_new_share_all"] == [0.0, 0.125]
    assert result["other_share_all"] == [0.5, 0.125]


def test_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt("saved; continue with --resume")

    monkeypatch.setattr(loop, "train_config", stop)
    with pytest.raises(KeyboardInterrupt, match=r"^Stopped; nothing was kept\.$"):
        loop.measure_loop(preset("debug"), "debug", 1)

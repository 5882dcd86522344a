"""Averages of metrics on their device, phases, and their state in a checkpoint."""

import json
import weakref
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from reverie.runs.metrics import observation_losses
from reverie.training.metrics import Metrics


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def averages(metrics: Metrics) -> Mapping[str, float]:
    return {name: value for name, value in metrics.mean().items() if not name.startswith(("time/", "perf/"))}


def test_mean_averages_numbers_and_tensors() -> None:
    metrics = Metrics()
    metrics.add({"a": 1.0, "b": torch.tensor(2.0)})
    metrics.add({"a": 4, "b": torch.tensor([6.0], dtype=torch.bfloat16), "c": torch.tensor(7)})
    metrics.add({"b": 10.0})
    assert averages(metrics) == {"a": 2.5, "b": 6.0, "c": 7.0}
    assert averages(metrics) == {"a": 2.5, "b": 6.0, "c": 7.0}
    metrics.reset()
    assert averages(metrics) == {}


def test_mean_of_many_numbers_keeps_the_small_ones() -> None:
    metrics = Metrics()
    for _ in range(3000):
        metrics.add({"image": torch.tensor(3763.9)})
    assert metrics.mean()["image"] == pytest.approx(float(torch.tensor(3763.9)), rel=1e-12)


def test_add_reads_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(*_: object) -> None:
        raise AssertionError("waits for the device")

    # All that makes the host wait: reading a value, and copying it to another device.
    for name in ("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__format__", "__array__"):
        monkeypatch.setattr(Tensor, name, wait)
    metrics = Metrics()
    for _ in range(2):
        metrics.add({"a": torch.ones((), requires_grad=True) * 2, "b": torch.ones(1, dtype=torch.bfloat16)})
    with pytest.raises(AssertionError, match="waits"):
        metrics.mean()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_add_does_not_wait_for_a_gpu() -> None:
    metrics = Metrics()
    values = {"a": torch.tensor(3.0, device="cuda"), "b": torch.tensor(5, device="cuda")}
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.add(values)
        metrics.add(values)
        with pytest.raises(RuntimeError, match="synchroniz"):
            metrics.mean()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert averages(metrics) == {"a": 3.0, "b": 5.0}


class Saved:
    """A tensor that a graph keeps for its backward pass."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def test_add_copies_tensors_and_keeps_no_graph() -> None:
    metrics, kept = Metrics(), []

    def pack(tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        kept.append(weakref.ref(saved))
        return saved

    buffer, weight = torch.tensor(1.0), torch.tensor(1.0, requires_grad=True)
    for value in (1.0, 2.0, 6.0):
        buffer.fill_(value)  # as a replayed CUDA graph does
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
            loss = weight * torch.tensor(5.0)
        metrics.add({"buffer": buffer, "loss": loss})
    assert kept[-1]() is not None
    del loss
    assert [saved() for saved in kept] == [None] * 3
    assert averages(metrics) == {"buffer": 3.0, "loss": 5.0}


def test_add_of_several_numbers_is_refused() -> None:
    with pytest.raises(RuntimeError, match="size 2"):
        Metrics().add({"kl": torch.zeros(2)})


def test_mean_has_rates_and_the_time_of_each_phase() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    with metrics.timer("train"):
        clock.now += 3
        with metrics.timer("replay"):
            clock.now += 2
        clock.now += 1
    clock.now += 4
    metrics.count("frames", 50)
    metrics.count("frames", 30)
    row = metrics.mean()
    assert row == {
        "perf/fps": 8.0,
        "time/train": 4.0,
        "time/train_share": 0.4,
        "time/replay": 2.0,
        "time/replay_share": 0.2,
    }


def test_timer_continues_over_a_reset_and_ends_with_an_error() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    with pytest.raises(KeyError), metrics.timer("train"):
        clock.now += 1
        assert metrics.mean()["time/train"] == 1.0
        metrics.reset()
        clock.now += 5
        raise KeyError
    clock.now += 5
    assert metrics.mean() == {"time/train": 5.0, "time/train_share": 0.5}


def test_spend_adds_time_of_another_thread() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    with metrics.timer("learn"):
        clock.now += 4
    metrics.spend("collect", 3)
    metrics.spend("collect", 0.5)
    assert metrics.mean() == {
        "time/learn": 4.0,
        "time/learn_share": 1.0,
        "time/collect": 3.5,
        "time/collect_share": 0.875,
    }
    metrics.reset()
    assert metrics.mean() == {}


def test_observation_losses_leaves_out_the_other_heads() -> None:
    names = ["model/reward_loss", "model/zoom_loss", "model/image_loss", "model/kl_loss", "model/kl", "model/loss"]
    assert observation_losses(names) == ["model/image_loss", "model/zoom_loss"]


def test_add_unless_leaves_out_tensors_where_the_condition_holds() -> None:
    metrics = Metrics()
    for value, is_skipped in ((1.0, 0), (float("nan"), 1), (3.0, 0)):
        metrics.add({"loss": torch.tensor(value), "count": 1}, unless=torch.tensor(is_skipped))
    assert averages(metrics) == {"loss": 2.0, "count": 1.0}
    metrics.reset()
    metrics.add({"loss": torch.tensor(1.0)}, unless=torch.tensor(1))
    assert averages(metrics) == {}


def observe(metrics: Metrics, clock: Clock, value: float) -> None:
    metrics.add({"a": value, "b": torch.tensor(value / 3), "perf/threads": 1})
    metrics.count("updates")
    with metrics.timer("learn"):
        clock.now += value
    clock.now += 0.5


def test_restore_of_a_state_continues_averages_rates_and_times() -> None:
    clocks = [Clock() for _ in range(3)]
    whole, first, second = map(Metrics, clocks)
    for value in (1.0, 4.0, 2.0):
        observe(whole, clocks[0], value)
    for value in (1.0, 4.0):
        observe(first, clocks[1], value)
    state = json.loads(json.dumps(first.state()))
    clocks[2].now = 7.0
    second.restore(state, torch.device("cpu"))
    observe(second, clocks[2], 2.0)
    assert second.mean() == whole.mean()


def test_phase_is_that_of_the_innermost_timer_and_its_latest_progress() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    with metrics.timer("evaluate"):
        clock.now += 5
        metrics.show_progress()
        assert metrics.phase == ("evaluate", 105.0)
        with metrics.timer("video"):
            clock.now += 1
            assert metrics.phase == ("video", 105.0)
        assert metrics.phase == ("evaluate", 106.0)

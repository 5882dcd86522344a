"""Metrics are averaged on their device, and rows survive crashes and resumption."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from reverie.errors import RunError
from reverie.runs.metrics import observation_losses, read_metrics
from reverie.training.metrics import Metrics, MetricsWriter


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_averages_numbers_and_tensors() -> None:
    metrics = Metrics()
    metrics.add({"a": 1.0, "b": torch.tensor(2.0)})
    metrics.add({"a": 4, "b": torch.tensor([6.0], dtype=torch.bfloat16), "c": torch.tensor(7)})
    metrics.add({"b": 10.0})
    assert metrics.mean() == {"a": 2.5, "b": 6.0, "c": 7.0}
    assert metrics.flush() == {"a": 2.5, "b": 6.0, "c": 7.0}
    assert metrics.flush() == {}


def test_many_small_numbers_do_not_vanish_in_a_large_sum() -> None:
    metrics = Metrics()
    for _ in range(3000):
        metrics.add({"image": torch.tensor(3763.9)})
    assert metrics.flush()["image"] == pytest.approx(float(torch.tensor(3763.9)), rel=1e-12)


def test_adding_reads_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(*_: object) -> None:
        raise AssertionError("waits for the device")

    # All that makes the host wait: reading a value, and copying it to another device.
    for name in ("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__format__", "__array__"):
        monkeypatch.setattr(Tensor, name, wait)
    metrics = Metrics()
    for _ in range(2):
        metrics.add({"a": torch.ones((), requires_grad=True) * 2, "b": torch.ones(1, dtype=torch.bfloat16)})
    with pytest.raises(AssertionError, match="waits"):
        metrics.flush()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_adding_does_not_wait_for_a_gpu() -> None:
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
    assert metrics.flush() == {"a": 3.0, "b": 5.0}


def test_tensors_are_copied_and_their_graphs_let_go() -> None:
    metrics = Metrics()
    buffer = torch.tensor(1.0)
    weight = torch.tensor(5.0, requires_grad=True)
    for value in (1.0, 2.0, 6.0):
        buffer.fill_(value)  # as a replayed CUDA graph does
        metrics.add({"buffer": buffer, "loss": weight * 1})
    kept = list(metrics._tensor_sums.values())
    assert all(isinstance(total, Tensor) and not total.requires_grad for total in kept)
    assert metrics.flush() == {"buffer": 3.0, "loss": 5.0}


def test_a_metric_is_one_number() -> None:
    with pytest.raises(ValueError, match=r"'kl' has shape \(2,\)"):
        Metrics().add({"kl": torch.zeros(2)})


def test_phases_and_rates() -> None:
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
    row = metrics.flush()
    assert row == {
        "perf/fps": 8.0,
        "time/train": 4.0,
        "time/train_share": 0.4,
        "time/replay": 2.0,
        "time/replay_share": 0.2,
    }


def test_a_phase_goes_on_over_a_flush_and_ends_with_an_error() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    with pytest.raises(KeyError), metrics.timer("train"):
        clock.now += 1
        assert metrics.flush()["time/train"] == 1.0
        clock.now += 5
        raise KeyError
    clock.now += 5
    assert metrics.flush() == {"time/train": 5.0, "time/train_share": 0.5}


def test_time_of_another_thread_is_charged_beside_ones_own() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    with metrics.timer("learn"):
        clock.now += 4
    metrics.spend("collect", 3)
    metrics.spend("collect", 0.5)
    assert metrics.flush() == {
        "time/learn": 4.0,
        "time/learn_share": 1.0,
        "time/collect": 3.5,
        "time/collect_share": 0.875,
    }
    assert metrics.flush() == {}


def test_observation_losses_leave_the_other_heads_out() -> None:
    names = ["model/reward_loss", "model/zoom_loss", "model/image_loss", "model/kl_loss", "model/kl", "model/loss"]
    assert observation_losses(names) == ["model/image_loss", "model/zoom_loss"]


def write_rows(directory: Path, steps: list[int], resume_at: int | None = None, offset: float = 0.0) -> None:
    with MetricsWriter(directory).open(resume_at) as writer:
        for step in steps:
            writer.write(step, 4 * step, step / 10, step // 2, {"episode/return": step + offset})


def events(directory: Path) -> EventAccumulator:
    board = EventAccumulator(str(directory / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    return board.Reload()


def test_rows_and_events(tmp_path: Path) -> None:
    write_rows(tmp_path, [10, 20])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {"step": 20, "frames": 80, "time": 2.0, "updates": 10, "episode/return": 20.0}
    assert list(json.loads(lines[1])) == ["step", "frames", "time", "updates", "episode/return"]
    assert [(event.step, event.value) for event in events(tmp_path).Scalars("episode/return")] == [(10, 10), (20, 20)]


def test_a_row_is_on_disk_at_once(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, tensorboard=False).open()
    writer.write(1, 4, 0.5, 0, {})
    assert len(read_metrics(tmp_path)) == 1
    writer.close()
    assert not (tmp_path / "tensorboard").exists()


def test_rows_are_json_even_where_training_broke(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, 4, 0.5, 0, {"a": math.nan, "b": -math.inf, "c": float(np.float32(0.1))})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert row["a"] is None and row["b"] is None and row["c"] == 0.1
    assert math.isnan(read_metrics(tmp_path)[0]["a"])


def test_resuming_drops_the_rows_after_the_checkpoint(tmp_path: Path) -> None:
    write_rows(tmp_path, [10, 20, 30, 40])
    write_rows(tmp_path, [30, 40, 50], resume_at=20, offset=0.5)
    assert [(row["step"], row["episode/return"]) for row in read_metrics(tmp_path)] == [
        (10, 10.0), (20, 20.0), (30, 30.5), (40, 40.5), (50, 50.5)
    ]  # fmt: skip
    assert [event.value for event in events(tmp_path).Scalars("episode/return")] == [10, 20, 30.5, 40.5, 50.5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]


def test_resuming_in_pretraining_drops_the_rows_after_the_checkpoint(tmp_path: Path) -> None:
    """Steps stand still there, and updates tell what is later."""
    with MetricsWriter(tmp_path, tensorboard=False).open() as writer:
        for updates in (0, 5, 10, 15):
            writer.write(40, 160, 1.0, updates, {})
    with MetricsWriter(tmp_path, tensorboard=False).open(40, 7) as writer:
        writer.write(40, 160, 2.0, 10, {})
    assert [(row["updates"], row["time"]) for row in read_metrics(tmp_path)] == [(0, 1.0), (5, 1.0), (10, 2.0)]


def test_resuming_mends_a_line_that_was_cut_short(tmp_path: Path) -> None:
    write_rows(tmp_path, [10, 20, 30])
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert [row["step"] for row in read_metrics(path)] == [10, 20]
    write_rows(tmp_path, [30], resume_at=30)
    assert [row["step"] for row in read_metrics(path)] == [10, 20, 30]


def test_every_cut_is_readable(tmp_path: Path) -> None:
    write_rows(tmp_path, [10, 20])
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole) + 1):
        (tmp_path / "metrics.jsonl").write_bytes(whole[:length])
        # The last line is complete without its newline already.
        rows = 2 if length >= len(whole) - 1 else 1 if length >= first - 1 else 0
        assert len(read_metrics(tmp_path)) == rows, length


def test_a_damaged_line_in_between_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path, [10])
    path = tmp_path / "metrics.jsonl"
    path.write_text("[1, 2]\n" + path.read_text())
    with pytest.raises(RunError, match="line 1 is damaged"):
        read_metrics(path)


def test_a_new_run_does_not_overwrite_metrics(tmp_path: Path) -> None:
    write_rows(tmp_path, [10])
    with pytest.raises(RunError, match="--resume"):
        MetricsWriter(tmp_path).open()


def test_resuming_without_metrics_starts_a_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "run", [30], resume_at=20)
    assert len(read_metrics(tmp_path / "run")) == 1


def test_no_metrics(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no metrics"):
        read_metrics(tmp_path)


def test_counters_keep_their_names(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, tensorboard=False) as writer, pytest.raises(ValueError, match="'step'"):
        writer.write(1, 4, 0.5, 0, {"step": 3.0})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    writer = MetricsWriter(tmp_path, tensorboard=False).open()
    with pytest.raises(RunError, match="No space left"):
        writer.write(1, 4, 0.5, 0, {})


def test_pictures_reach_tensorboard(tmp_path: Path) -> None:
    gif = tmp_path / "dream.gif"
    frames = [Image.new("L", (6, 4), color) for color in (0, 255)]
    frames[0].save(gif, save_all=True, append_images=frames[1:])
    with MetricsWriter(tmp_path) as writer:
        writer.add_image("model/strip", np.zeros((5, 7, 3), np.uint8), 10)
        writer.add_gif("model/dream", gif.read_bytes(), 10)
        with pytest.raises(ValueError, match="not a GIF"):
            writer.add_gif("model/dream", b"PNG", 10)
    board = events(tmp_path)
    strip, dream = board.Images("model/strip")[0], board.Images("model/dream")[0]
    assert (strip.step, strip.width, strip.height) == (10, 7, 5)
    assert (dream.step, dream.width, dream.height) == (10, 6, 4)
    assert dream.encoded_image_string == gif.read_bytes()

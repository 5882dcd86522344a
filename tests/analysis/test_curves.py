"""Learning curves: the numbers that are drawn, and figures that can be opened."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reverie.analysis.curves import Curve, band, curve, plot_learning_curve, smooth
from reverie.errors import ReverieError, RunError
from reverie.training.metrics import MetricsWriter


def line(frames: list[float], values: list[float]) -> Curve:
    return Curve(np.array(frames, float), np.array(values, float))


def make_run(folder: Path, env: str | None = "ALE/Pong-v5", rows: int = 30, loss: str = "model/image_loss") -> Path:
    with MetricsWriter(folder, tensorboard=False) as writer:
        for index in range(rows):
            scalars = {loss: 3763 + 1000 * 0.7**index, "model/kl": 8.0, "train/return": float(index)}
            if index % 5 == 0:
                scalars["eval/return"] = index + 1.0
            writer.write(index * 10, index * 40, index * 2.0, index, scalars)
    if env is not None:
        (folder / "config.json").write_text(json.dumps({"env": {"name": env}}))
    return folder


def test_curve_takes_the_rows_that_have_the_metric() -> None:
    rows = [{"frames": 8, "a": 2.0}, {"frames": 4, "a": 1.0}, {"frames": 12}, {"frames": 16, "a": math.nan}]
    found = curve(rows, "a")
    assert found.frames.tolist() == [4, 8] and found.values.tolist() == [1, 2]
    assert len(curve(rows, "b")) == 0


def test_smoothing_keeps_a_straight_line_and_does_not_shift_a_step() -> None:
    frames = list(range(101))
    straight = smooth(line(frames, [2.0 * frame for frame in frames]), 0.2)
    assert np.allclose(straight.values, 2.0 * straight.frames)
    step = smooth(line(frames, [float(frame > 50) for frame in frames]), 0.2)
    assert step.values[40] == 0 and step.values[61] == 1
    # Eleven points on each side and the one itself, half of them above.
    assert step.values[50] == pytest.approx(10 / 21)


def test_smoothing_averages_a_window_of_frames_not_of_points() -> None:
    uneven = smooth(line([0, 49, 50, 51, 100], [9.0, 1.0, 2.0, 3.0, 9.0]), 0.1)
    assert uneven.values.tolist() == [9.0, 2.0, 2.0, 2.0, 9.0]


def test_band_of_curves_with_different_frames() -> None:
    frames, mean, low, high = band([line([0, 10, 20], [0, 10, 20]), line([5, 15], [0, 0]), line([], [])])
    assert frames.tolist() == [5, 10, 15]
    assert mean.tolist() == [2.5, 5, 7.5] and low.tolist() == [0, 0, 0] and high.tolist() == [5, 10, 15]


def test_band_of_curves_that_do_not_overlap() -> None:
    assert all(len(part) == 0 for part in band([line([0, 1], [0, 0]), line([2, 3], [0, 0])]))
    assert all(len(part) == 0 for part in band([]))


def test_long_curves_are_thinned_out() -> None:
    frames, mean, _, _ = band([line(list(range(5000)), [1.0] * 5000)], points=100)
    assert len(frames) == 100 and mean.tolist() == [1.0] * 100


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_figures(tmp_path: Path, suffix: str) -> None:
    runs = [make_run(tmp_path / str(seed), rows=20 + seed) for seed in range(2)]
    out = tmp_path / "new" / f"curve{suffix}"
    assert plot_learning_curve(runs, out) == out
    first = out.read_bytes()
    assert plot_learning_curve(runs, out).read_bytes() == first
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    if suffix == ".png":
        picture = Image.open(out)
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 50


def test_what_is_drawn(tmp_path: Path) -> None:
    pong = [make_run(tmp_path / f"pong{seed}") for seed in range(2)]
    boxing = make_run(tmp_path / "boxing", "ALE/Boxing-v5", loss="model/vector_loss")
    svg = plot_learning_curve([*pong, boxing / "metrics.jsonl"], tmp_path / "curve.svg").read_text()
    texts = re.findall(r"<!-- (.*?) -->", svg)
    for label in (
        "ALE/Pong-v5, training",
        "ALE/Pong-v5, evaluation",
        "ALE/Boxing-v5, training",
        "Reconstruction",
        "KL, posterior to prior",
        "environment frames",
    ):
        assert label in texts, label
    assert svg.count("fill-opacity: 0.18") >= 1  # the band of the two runs of Pong
    assert "not recorded" not in texts
    alone = plot_learning_curve([boxing], tmp_path / "alone.svg").read_text()
    assert "fill-opacity: 0.18" not in alone and "ALE/Boxing-v5" in re.findall(r"<!-- (.*?) -->", alone)


def test_a_run_of_one_row_and_no_configuration(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path / "short", tensorboard=False) as writer:
        writer.write(1, 4, 0.5, 0, {"model/kl": 3.0})
    svg = plot_learning_curve([tmp_path / "short"], tmp_path / "curve.svg").read_text()
    texts = re.findall(r"<!-- (.*?) -->", svg)
    # Identical texts are drawn once in an SVG and used again.
    assert "not recorded" in texts and "short" in texts


def test_mistakes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(ReverieError, match=r"\.svg, \.png, \.pdf"):
        plot_learning_curve([run], tmp_path / "curve.jpg")
    with pytest.raises(RunError, match="no run to draw"):
        plot_learning_curve([], tmp_path / "curve.svg")
    with pytest.raises(RunError, match="There are no metrics"):
        plot_learning_curve([tmp_path / "nowhere"], tmp_path / "curve.svg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.jsonl").touch()
    with pytest.raises(RunError, match="no metrics yet"):
        plot_learning_curve([tmp_path / "empty"], tmp_path / "curve.svg")
    (tmp_path / "file").touch()
    with pytest.raises(ReverieError, match="Cannot write"):
        plot_learning_curve([run], tmp_path / "file" / "curve.svg")

"""Learning curves: smoothing, means and bands."""

import math

import numpy as np
import pytest

from reverie.analysis.curves import Curve, band, curve, smooth


def line(frames: list[float], values: list[float]) -> Curve:
    return Curve(np.array(frames, float), np.array(values, float))


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


def test_smooth_rows_averages_so_many_and_fewer_near_the_ends() -> None:
    found = smooth(line([0, 10, 50, 51, 100], [9.0, 1.0, 2.0, 3.0, 9.0]), rows=3)
    assert found.values.tolist() == [9.0, 4.0, 2.0, pytest.approx(14 / 3), 9.0]
    assert smooth(line([1], [5.0]), rows=9).values.tolist() == [5.0]
    assert len(smooth(line([], []))) == 0


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

"""Figures from metrics that were made up."""

import math

import numpy as np
import pytest

from reverie.analysis.curves import Curve
from reverie.analysis.diagnose.learning import Trend, measure_learning, trend
from reverie.config import Config


def line(values: list[float]) -> Curve:
    return Curve(np.arange(len(values), dtype=float), np.array(values, float))


@pytest.mark.parametrize(
    ("slope", "noise", "direction"),
    [(1, 0, "rising"), (-1, 0, "falling"), (0, 0, "flat"), (0, 1, "flat"), (-0.2, 1, "falling"), (0.001, 1, "flat")],
)
def test_directions(slope: float, noise: float, direction: str) -> None:
    rng = np.random.default_rng(0)
    values = [5 + slope * i + noise * rng.standard_normal() for i in range(100)]
    found = trend(line(values))
    assert found.direction == direction
    assert found.latest == pytest.approx(np.mean(values[75:])) and found.before == pytest.approx(np.mean(values[50:75]))


def test_noise_is_seldom_taken_for_a_trend() -> None:
    rng = np.random.default_rng(0)
    found = [trend(line(rng.standard_normal(80).tolist())).direction for _ in range(300)]
    assert found.count("flat") >= 290


def test_few_rows_show_no_trend() -> None:
    assert trend(line([3, 2, 1, 0])).direction == "unknown"
    assert trend(line([3])).latest == trend(line([3])).before == 3


@pytest.mark.parametrize(
    ("latest", "before", "texts"),
    [
        (0.05605528, 0.05606340, ("0.0560553", "0.0560634")),
        (3763.98123, 3764.23456, ("3763.98", "3764.23")),
        (1.5, 1.5, ("1.500", "1.500")),
        (2.0, 1.0, ("2.000", "1.000")),
        (12345.678, 2345.678, ("12346", "2346")),
        (1.234567e-9, 2e-9, ("1.235e-09", "2e-09")),
        (0.0, 0.0, ("0", "0")),
        (math.nan, 1.0, ("nan", "1")),
    ],
)
def test_trend_texts_have_the_same_decimals_and_show_the_change(
    latest: float, before: float, texts: tuple[str, str]
) -> None:
    assert Trend(latest, before, "falling").texts() == texts


def row(index: int, **values: float) -> dict[str, float]:
    metrics = {name.replace("__", "/"): value for name, value in values.items()}
    return {"step": index, "frames": 4 * index, "updates": index, **metrics}


def test_gradients_and_rows() -> None:
    config = Config().override(
        **{"world_model.optimizer.max_grad_norm": 10, "behavior.actor.optimizer.max_grad_norm": 0}
    )
    rows = [row(0, episode__return=1.0)]
    for i, norm in enumerate([5.0, 11, 12, 8]):
        rows.append(
            row(i + 1, model__loss=1.0, model__image_loss=3.0, model__gradient_norm=norm,
                actor__gradient_norm=99.0, episode__return=float(i))
        )  # fmt: skip
    rows[2]["model/image_loss"] = math.nan
    rows[3]["episode/return"] = math.nan  # not something that is learnt
    rows[2]["train/nonfinite_updates"], rows[4]["train/nonfinite_updates"] = 2.0, 7.0
    found = measure_learning(rows, config)
    assert (found.rows, found.not_finite, found.skipped) == (4, 1, 7)
    assert set(found.gradients) == {"model", "actor"}
    model = found.gradients["model"]
    assert (model.median, model.largest, model.clip, model.clipped) == (9.5, 12, 10, 0.5)
    assert found.gradients["actor"].clipped == 0  # nothing is clipped
    assert found.trends["model/image_loss"].latest == 3
    assert found.returns == {"episode/return": pytest.approx((0 + 1 + 3) / 3)}


def test_nothing_yet() -> None:
    found = measure_learning([row(0)], Config())
    assert (found.rows, found.gradients, found.trends, found.returns) == (0, {}, {}, {})

"""Figures from metrics that were made up."""

import math

import numpy as np
import pytest

from reverie.analysis.curves import Curve
from reverie.analysis.diagnose.learning import measure_learning, measure_speed, trend
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
    assert found.latest == pytest.approx(np.mean(values[75:]))
    assert found.change == pytest.approx(np.mean(values[75:]) - np.mean(values[50:75]))


def test_noise_is_seldom_taken_for_a_trend() -> None:
    rng = np.random.default_rng(0)
    found = [trend(line(rng.standard_normal(80).tolist())).direction for _ in range(300)]
    assert found.count("flat") >= 290


def test_few_rows_show_no_trend() -> None:
    assert trend(line([3, 2, 1, 0])).direction == "unknown"
    assert trend(line([3])) == (3, 0, "unknown")


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
    assert found.trends["episode/return"].latest == 3


def test_imagined_reward_is_the_best_and_the_latest_eighth() -> None:
    """It rises to 0.005 and falls to 0.0003, as in a run of Freeway whose latents carried nothing at first."""
    values = [0.001] * 20 + [0.005] * 10 + [0.0003] * 10
    rows = [row(step, imagination__reward_mean=value) for step, value in enumerate(values)]
    found = measure_learning(rows, Config())
    assert vars(found.imagined_reward) == pytest.approx({"best": 0.005, "latest": 0.0003})
    assert math.isnan(measure_learning(rows[:7], Config()).imagined_reward.best)


def test_nothing_yet() -> None:
    found = measure_learning([row(0)], Config())
    assert (found.rows, found.gradients, found.trends) == (0, {}, {})


def test_measure_speed_averages_rows_with_steps_and_updates() -> None:
    times = {"time__learn_share": 0.6, "perf__updates_per_second": 5.0}
    rows = [
        row(1, perf__fps=900.0, time__collect_share=0.9),  # prefill
        row(2, time__learn_share=0.99, perf__updates_per_second=9.0),  # pretraining
        row(3, perf__fps=100.0, time__collect_share=0.2, **times),
        row(4, perf__fps=300.0, time__collect_share=0.4, **times),
    ]
    found = measure_speed(rows)
    assert (found.frames_per_second, found.updates_per_second, found.update_share) == (200, 5, 0.6)
    assert found.collect_share == pytest.approx(0.3)
    rows[-1]["time/wait_share"] = 0.1  # asynchronous: environments step during the updates
    assert measure_speed(rows).collect_share == pytest.approx(0.05)
    assert all(math.isnan(value) for value in vars(measure_speed(rows[:2])).values())

"""The published numbers, and that the paper's aggregates come out of them."""

import math

import numpy as np
import pytest

from reverie.analysis import scores
from reverie.analysis.published import (
    BASELINES,
    VARIANTS,
    Task,
    Variant,
    atari_curves,
    atari_scores,
    curve,
    dmc_curves,
    game_scores,
    task,
)
from reverie.envs import list_envs


def test_every_game_of_the_table_is_an_environment_of_ale_py() -> None:
    ids = next(listing.ids for listing in list_envs() if listing.title == "Atari")
    found = [named.name for identifier in ids if (named := task(identifier))]
    assert len(found) == len(set(found)) == 57
    assert set(found) == set(atari_scores())


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("ALE/MontezumaRevenge-v5", Task("atari", "montezuma_revenge")),
        ("ale_py:ALE/UpNDown-v5", Task("atari", "up_n_down")),
        ("ALE/Jamesbond-v5", Task("atari", "james_bond")),
        ("PongNoFrameskip-v4", Task("atari", "pong")),
        ("Pong-v4", Task("atari", "pong")),
        ("ALE/Tetris-v5", None),
        ("MinAtar/Breakout-v1", None),
        ("MinAtar/Asterix-v1", None),
        ("CartPole-v1", None),
        ("dm_control/walker-walk-v0", Task("dmc", "walker_walk")),
        ("dm_control/cartpole-swingup_sparse-v0", Task("dmc", "cartpole_swingup_sparse")),
        ("dm_control/ball_in_cup-catch-v0", Task("dmc", "cup_catch")),
        ("mine:Walker", None),
        ("", None),
    ],
)
def test_tasks(identifier: str, expected: Task | None) -> None:
    assert task(identifier) == expected


def test_scores_of_a_game_are_those_of_the_file() -> None:
    boxing = game_scores("ALE/Boxing-v5")
    assert boxing is not None
    assert (boxing.random, boxing.gamer, boxing.record) == (0.1, 12.1, 100.0)
    assert boxing.baselines == {"dqn": 77.99, "c51": 81.4, "rainbow": 98.56, "iqn": 97.91}
    assert boxing.dreamerv2 == {"schedules": 87.37, "release": 90.49}
    assert boxing.seeds == {"schedules": 4, "release": 8}
    defender = game_scores("ALE/Defender-v5")
    assert defender is not None
    assert defender.gamer == 18688.9
    assert all(math.isnan(score) for score in (*defender.baselines.values(), *defender.dreamerv2.values()))


def test_curves() -> None:
    alien = curve("ALE/Alien-v5", "schedules")
    assert alien is not None
    assert alien.frames[:2].tolist() == [1e6, 2e6]
    assert (alien.mean[0], alien.std[0], alien.seeds[0]) == (419.25, 100.09, 4)
    assert len(atari_curves("schedules")) == len(atari_curves("release")) == 55
    assert curve("ALE/Defender-v5", "release") is None
    assert len(dmc_curves()) == 20
    acrobot = curve("dm_control/acrobot-swingup-v0", "release")
    assert acrobot is not None
    assert (acrobot.frames[-1], len(acrobot.frames)) == (66 * 30_000, 66)
    for line in [*atari_curves("release").values(), *dmc_curves().values()]:
        assert (np.diff(line.frames) > 0).all()
        assert np.isfinite(line.mean).all()


@pytest.mark.parametrize(
    ("agent", "median", "record", "clipped"),
    [
        ("schedules", "2.58", "0.434", "0.286"),
        ("release", "2.18", "0.440", "0.282"),
        ("rainbow", "1.47", "0.172", "0.172"),
        ("iqn", "1.29", "0.211", "0.209"),
    ],
)
def test_the_papers_aggregates(agent: str, median: str, record: str, clipped: str) -> None:
    found = scores.aggregate(scores.published_scores(agent))
    assert found.games == 55
    assert f"{found.gamer_median:.2f}" == median
    assert f"{found.record_mean:.3f}" == record
    assert f"{found.clipped_record_mean:.3f}" == clipped


@pytest.mark.parametrize("variant", VARIANTS)
def test_final_scores_are_those_of_the_curves(variant: Variant) -> None:
    """Equal, to the digits of the files, wherever all seeds have all the rows."""
    compared = 0
    final = scores.published_scores(variant)
    for name, score in scores.scores_from_curves(variant).items():
        line = atari_curves(variant)[name]
        if len(set(line.seeds[line.frames >= 190e6])) == 1:
            compared += 1
            assert score == pytest.approx(final[name], abs=0.011)
        else:
            assert score == pytest.approx(final[name], rel=0.1, abs=0.1), name
    assert compared == {"schedules": 54, "release": 1}[variant]


def test_aggregates_from_the_rows_of_the_curves() -> None:
    by_row = scores.aggregate(scores.scores_from_curves("schedules"))
    assert [f"{by_row.gamer_median:.2f}", f"{by_row.record_mean:.3f}", f"{by_row.clipped_record_mean:.3f}"] == [
        "2.58", "0.434", "0.286",
    ]  # fmt: skip
    by_row = scores.aggregate(scores.scores_from_curves("release"))
    assert (by_row.gamer_median, by_row.record_mean) == pytest.approx((2.18, 0.440), abs=0.006)


def test_baselines_are_complete() -> None:
    for name in BASELINES:
        assert len(scores.published_scores(name)) == 55

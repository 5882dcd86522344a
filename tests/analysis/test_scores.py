"""Normalisation and summaries, against numbers worked out by hand."""

import pytest

from reverie.analysis import scores


def test_normalised_scores_of_boxing() -> None:
    """Random 0.1, gamer 12.1, record 100."""
    found = scores.normalised_scores("ALE/Boxing-v5", 6.1)
    assert found == {
        "gamer": pytest.approx(0.5),
        "record": pytest.approx(6 / 99.9),
        "clipped_record": pytest.approx(6 / 99.9),
    }
    above = scores.normalised_scores("ALE/Boxing-v5", 199.9)
    assert (above["record"], above["clipped_record"]) == (pytest.approx(2.0), 1.0)
    below = scores.normalised_scores("ALE/Boxing-v5", -99.8)
    assert below["clipped_record"] == below["record"] == pytest.approx(-1.0)


def test_others_have_their_own_normalisation_or_none() -> None:
    assert scores.normalised_scores("dm_control/walker-walk-v0", 250.0) == {"dmc": 0.25}
    assert scores.normalised_scores("MinAtar/Breakout-v1", 10.0) == {}
    assert scores.normalised_scores("ALE/Tetris-v5", 10.0) == {}


def test_aggregate() -> None:
    # boxing: gamer 1, record 12 / 99.9; pong (-20.7, 14.6, 21): gamer 0, record 0; freeway (0, 29.6, 38): record 2
    found = scores.aggregate({"boxing": 12.1, "pong": -20.7, "freeway": 76.0})
    assert found["gamer_median"] == pytest.approx(1.0)
    assert found["gamer_mean"] == pytest.approx((1 + 0 + 76 / 29.6) / 3)
    assert found["record_mean"] == pytest.approx((12 / 99.9 + 0 + 2) / 3)
    assert found["clipped_record_mean"] == pytest.approx((12 / 99.9 + 0 + 1) / 3)

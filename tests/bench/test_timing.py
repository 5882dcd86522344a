"""Summaries of a handful of numbers, against numbers worked out by hand."""

from reverie.bench.timing import spread


def test_quartiles_are_interpolated() -> None:
    assert spread("x", [5.0, 1.0, 2.0, 4.0]) == {
        "x_median": 3.0,
        "x_quartiles": [1.75, 4.25],
        "x_all": [5.0, 1.0, 2.0, 4.0],
    }


def test_one_value() -> None:
    assert spread("x", [2]) == {"x_median": 2.0, "x_quartiles": [2.0, 2.0], "x_all": [2.0]}


def test_six_digits() -> None:
    assert spread("x", [0.00123456789, 1234567.89])["x_all"] == [0.00123457, 1234570.0]

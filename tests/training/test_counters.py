"""Counters of a run, as a checkpoint gives them back."""

from dataclasses import asdict
from typing import Any

import pytest

from reverie.training.counters import Counters


def test_counters_from_their_dictionary_are_equal() -> None:
    counters = Counters(steps=3, seconds=1, best_score=2, videos={"a": "b"}, last_due={"log": None, "train": 4})
    assert Counters(**asdict(counters)) == counters


@pytest.mark.parametrize(
    "name, value",
    [
        ("steps", "3"),
        ("steps", 3.0),
        ("steps", True),
        ("steps", None),
        ("is_pretrained", 1),
        ("seconds", "1"),
        ("best_score", []),
        ("rows_sha256", 7),
        ("videos", {"a": 1}),
        ("videos", None),
        ("last_due", {"log": []}),
        ("last_due", {"log": 1.5}),
    ],
)
def test_counters_of_another_type_are_refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        Counters(**{name: value})

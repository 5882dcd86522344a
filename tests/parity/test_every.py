"""When updates are due (SPEC 42)."""

from reverie.training.every import Every


def test_every16(golden) -> None:
    due = Every(16)
    expected = golden("16_misc")["every16"]
    assert [bool(due(step)) for step in range(50, 120)] == expected.tolist()

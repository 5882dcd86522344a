"""The plot of characters has the size, the labels and the shape that it should have."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from reverie.analysis.terminal import terminal_curve


def dots(text: str) -> set[tuple[int, int]]:
    """Column and row of every dot, from the top left; decoded from the Unicode standard's numbering of dots."""
    positions = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]
    found = set()
    for row, line in enumerate(text.splitlines()[:-1]):
        plot = line[max(line.find("│"), line.find("┤")) + 1 :]
        for column, character in enumerate(plot):
            bits = ord(character) - 0x2800 if character != " " else 0
            found |= {(2 * column + x, 4 * row + y) for bit, (x, y) in enumerate(positions) if bits >> bit & 1}
    return found


def test_a_rising_line() -> None:
    text = terminal_curve([(0, -21.0), (200_000, 21.0)], width=26, height=7)
    lines = text.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith(" 21 ┤") and lines[5].startswith("-21 ┤") and lines[2].startswith("    │")
    assert lines[6].split() == ["0", "200k"]
    found = dots(text)
    assert (0, 23) in found and (41, 0) in found
    # Connected: every column has dots, and neighbours touch.
    for column in range(41):
        here, there = ({y for x, y in found if x == side} for side in (column, column + 1))
        assert min(abs(a - b) for a in here for b in there) <= 1


def test_values_in_one_column_are_averaged() -> None:
    text = terminal_curve([(0, 0.0), (0, 10.0), (100, 0.0), (100, 10.0)], width=20, height=4)
    assert {y for _, y in dots(text)} <= {5, 6}


def test_a_flat_line_and_a_single_point() -> None:
    for points in ([(1, 2.0), (4000, 2.0)], [(1, 2.0)]):
        text = terminal_curve(points, width=20, height=4)
        assert text.count("2 ┤") == 1 and len({y for _, y in dots(text)}) == 1


@pytest.mark.parametrize("points", [[], [(0, math.nan)], [(math.inf, 1.0)]])
def test_nothing_to_draw(points: list[tuple[float, float]]) -> None:
    assert terminal_curve(points) == "(no points yet)"


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(-1e6, 1e6)), min_size=1, max_size=30),
    st.integers(24, 100),
    st.integers(3, 20),
)
def test_it_never_exceeds_its_size(points: list[tuple[float, float]], width: int, height: int) -> None:
    lines = terminal_curve(points, width, height).splitlines()
    assert len(lines) == height and max(len(line) for line in lines) <= width

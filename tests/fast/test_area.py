"""Averaging areas, bit for bit as OpenCV does it, and exactly."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from reverie.fast import area
from reverie.fast.area import area_average
from reverie.specs import Array

needs_compiler = pytest.mark.skipif(area._library() is None, reason="needs a C compiler")


def images(shape: tuple[int, ...], count: int) -> Iterator[Array]:
    """Noise of all numbers, of the extremes, and of neighbours, plain blocks like those of a game, and one number."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.integers(0, 256, shape, np.uint8)
        yield rng.integers(0, 2, shape, np.uint8) * np.uint8(255)
        yield rng.integers(100, 102, shape, np.uint8)
        blocks = rng.integers(0, 256, (shape[0] // 10, shape[1] // 8, *shape[2:]), np.uint8)
        yield np.ascontiguousarray(np.repeat(np.repeat(blocks, 10, 0), 8, 1))
        yield np.full(shape, rng.integers(256), np.uint8)


@needs_compiler
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((210, 160, 1), (64, 64)),
        ((250, 160, 1), (64, 64)),
        ((210, 160, 3), (64, 64)),
        ((210, 160, 1), (32, 96)),
        ((210, 160, 1), (30, 32)),  # whole numbers of pixels
    ],
)
def test_the_same_bits_as_opencv(shape: Any, size: tuple[int, int]) -> None:
    shrink = area_average(shape, size)
    assert shrink
    for image in images(shape, 40):
        expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA).reshape(*size, shape[2])
        np.testing.assert_array_equal(shrink(image), expected)


@needs_compiler
def test_the_mean_of_the_area_by_fractions() -> None:
    shrink = area_average((21, 10, 1), (8, 4))
    assert shrink
    image = np.random.default_rng(0).integers(0, 256, (21, 10, 1), np.uint8)
    rows, columns = Fraction(21, 8), Fraction(10, 4)

    def overlap(index: int, length: Fraction, pixel: int) -> Fraction:
        return max(Fraction(0), min((index + 1) * length, Fraction(pixel + 1)) - max(index * length, Fraction(pixel)))

    for i, j in np.ndindex(8, 4):
        total = sum(
            overlap(i, rows, y) * overlap(j, columns, x) * int(image[y, x, 0]) for y in range(21) for x in range(10)
        )
        assert shrink(image)[i, j, 0] == round(total / (rows * columns))


def test_what_may_differ_is_left_to_opencv() -> None:
    assert area_average((210, 160, 1), (105, 80)) is None  # sums of four pixels: 0.5 occurs
    assert area_average((210, 160, 1), (84, 84)) is None
    assert area_average((25, 25, 1), (64, 64)) is None  # larger
    assert area_average((211, 161, 1), (64, 64)) is None  # totals beyond what float32 can tell apart


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recwarn: Any) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    area._library.cache_clear()
    try:
        assert area_average((210, 160, 1), (64, 64)) is None
    finally:
        area._library.cache_clear()
    assert not recwarn.list

"""Images made smaller by averaging areas: what OpenCV's INTER_AREA computes, to the last bit, in a third of its time.

A pixel of the result is a sum of pixels with whole weights, divided by what the weights add up to, the total. OpenCV
adds in float32 and rounds. Where the total is odd, no such quotient lies halfway between two whole numbers: it stays
1 / (2 total) away from there, more than float32 errs by, and whoever adds and rounds comes to the same number. Atari's
screens have 210 x 160 pixels (some 250 x 160); on the way to 64 x 64 their totals are 525 and 625.
"""

import ctypes
import functools
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reverie.fast.compiler import load_library

SOURCE = Path(__file__).with_name("area.c")
LARGEST_TOTAL = 1000
"""Up to here float32 errs by less than half of that distance: by 0.0002 at most, in a dozen roundings of up to 255."""

Image = NDArray[np.uint8]
Integers = NDArray[np.int32]


def area_average(shape: tuple[int, int, int], size: tuple[int, int]) -> "AreaAverage | None":
    """A function that makes images smaller.

    Args:
        shape: height, width and channels of the images.
        size: height and width of the result.

    Returns:
        None where OpenCV has to do it: the result might differ from its own, or there is no C compiler.
    """
    smaller = size[0] <= shape[0] and size[1] <= shape[1]
    total = _total(shape[0], size[0]) * _total(shape[1], size[1])
    if not smaller or total % 2 == 0 or total > LARGEST_TOTAL:
        return None
    library = _library()
    return AreaAverage(library, shape, size) if library else None


class AreaAverage:
    """Makes images of one size smaller; see `area_average`."""

    def __init__(self, library: ctypes.CDLL, shape: tuple[int, int, int], size: tuple[int, int]) -> None:
        (height, width, channels), (rows, columns) = shape, size
        first_row, row_weight = _weights(height, rows)
        first_column, column_weight = _weights(width, columns)
        sums = np.zeros((width + len(column_weight), channels), np.int32)
        line = np.zeros(columns, np.int32)
        total = _total(height, rows) * _total(width, columns)
        self._function = library.area
        self._entries = height * width * channels
        self._result_shape = (rows, columns, channels)
        self._kept = (first_row, row_weight, first_column, column_weight, sums, line)  # Their addresses are in use.
        self._plan = (
            *(ctypes.c_int64(number) for number in (width, channels)),
            *(_address(array) for array in (first_row, row_weight)),
            *(ctypes.c_int64(number) for number in (rows, len(row_weight))),
            *(_address(array) for array in (first_column, column_weight)),
            *(ctypes.c_int64(number) for number in (columns, len(column_weight), total)),
            *(_address(array) for array in (sums, line)),
        )

    def __call__(self, image: Image) -> Image:
        """The result [*size, channels], a new array.

        Args:
            image: dense [height, width, channels], or [height, width] if there is one channel.
        """
        assert image.size == self._entries and image.dtype == np.uint8 and image.flags.c_contiguous
        result = np.empty(self._result_shape, np.uint8)
        self._function(_address(image), _address(result), *self._plan)
        return result


def _total(pixels: int, result: int) -> int:
    """What the weights of one pixel of the result add up to, along one side."""
    return pixels // gcd(pixels, result)


def _weights(pixels: int, result: int) -> tuple[Integers, Integers]:
    """How `pixels` in a line become `result` many.

    Returns:
        The first pixel that each one of the result covers [result], and how much of it and of the following ones
        [taps, result]; in units of which a pixel has `result` / gcd.
    """
    width, length = result // gcd(pixels, result), _total(pixels, result)
    start = np.arange(result) * length
    first = start // width
    taps = int((-(-(start + length) // width) - first).max())
    index = first + np.arange(taps)[:, None]
    overlap = np.minimum(start + length, (index + 1) * width) - np.maximum(start, index * width)
    return first.astype(np.int32), np.maximum(overlap, 0).astype(np.int32)


def _address(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@functools.cache
def _library() -> ctypes.CDLL | None:
    return load_library([SOURCE])

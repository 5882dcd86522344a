"""Conversion of pictures of any layout and bounds to uint8 images of 64x64 pixels."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from reverie.envs.spaces import LARGEST_BOUND, InvalidStepError
from reverie.specs import Array, ArraySpec

IMAGE_SIZE = (64, 64)
"""Height and width of images in pixels, which the convolutions need."""
MIN_SIDE = 16
"""Least height and width of a picture in pixels; a smaller one is a grid of symbols, and a vector for the agent."""


def is_grid(space: spaces.Box) -> bool:
    """Return True for the layout of a picture of any size.

    That is height x width x channels or channels x height x width of any dtype, a stack of such frames, and
    height x width of uint8 or bool.
    """
    return len(space.shape) in (3, 4) or (len(space.shape) == 2 and space.dtype in (np.uint8, np.bool_))


def is_large(space: spaces.Box) -> bool:
    """Return True if both sides of a grid have at least `MIN_SIDE` pixels."""
    frame = _frame_shape(space)
    return min(frame[1:] if _has_channels_first(frame) else frame[:2]) >= MIN_SIDE


def is_scalable(space: spaces.Box) -> bool:
    """Return True if pixels are bytes, or have bounds by which they can be scaled to bytes."""
    bounds = np.abs(np.array([space.low, space.high], np.float64))
    return space.dtype == np.uint8 or bool((bounds < LARGEST_BOUND).all())


def image_converter(space: spaces.Box) -> tuple[ArraySpec, Callable[[Array], Array]]:
    """Return the form of a picture with 2 to 4 dimensions for the agent, and what converts it.

    Channels are the shortest axis: the last one, unless the first is shorter still. Frames of a stack, which is the
    first of four axes, go into the channels. bytes stay as they are, other numbers are scaled by their bounds.
    """
    frame = _frame_shape(space)
    is_stack, channels_first = len(space.shape) == 4, _has_channels_first(frame)
    channels = (frame[0] if channels_first else frame[2]) * (space.shape[0] if is_stack else 1)
    to_bytes = None if space.dtype == np.uint8 else _byte_scaler(space)

    def convert(image: Array) -> Array:
        image = image if to_bytes is None else to_bytes(image)
        image = np.concatenate(image, 0 if channels_first else 2) if is_stack else image.reshape(frame)
        return resize(image.transpose(1, 2, 0) if channels_first else image)

    return ArraySpec((*IMAGE_SIZE, channels), "uint8"), convert


def resize(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize uint8 `[h, w, C]` to `[64, 64, C]` by averaging areas; always a new array."""
    if image.shape[:2] == IMAGE_SIZE:
        return np.array(image, order="C")
    # OpenCV averages areas of at most four channels at once.
    parts = [np.ascontiguousarray(image[:, :, start : start + 4]) for start in range(0, image.shape[2], 4)]
    resized = [cv2.resize(part, IMAGE_SIZE[::-1], interpolation=cv2.INTER_AREA) for part in parts]
    return np.concatenate([part.reshape(*IMAGE_SIZE, -1) for part in resized], 2, dtype=np.uint8)


def _frame_shape(space: spaces.Box) -> tuple[int, ...]:
    return (*space.shape, 1) if len(space.shape) == 2 else space.shape[-3:]


def _has_channels_first(frame: tuple[int, ...]) -> bool:
    return frame[0] < frame[2]


def _byte_scaler(space: spaces.Box) -> Callable[[Array], Array]:
    lows, highs = space.low.astype(np.float64), space.high.astype(np.float64)
    # A plain number in place of equal ones keeps float32 images float32.
    low, high, scale = (_simplify(each) for each in (lows, highs, 255 / np.where(highs > lows, highs - lows, 1)))

    def convert(image: Array) -> Array:
        if image.dtype == np.float16:
            image = image.astype(np.float32)  # differences would overflow
        if (image < low).any() or (image > high).any():
            raise InvalidStepError(f"has values outside the space's bounds: {image.min()} to {image.max()}")
        return np.rint((image - low) * scale).astype(np.uint8)

    return convert


def _simplify(array: Array) -> Any:
    return array.item(0) if (array == array.item(0)).all() else array

"""Values in the messages of a game: actions, numbers, images, and errors."""

import base64
import binascii
import io
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reverie.config.names import did_you_mean
from reverie.errors import ReverieError
from reverie.specs import ActionSpec, Array


class MessageError(ReverieError):
    """A message that cannot be followed; nothing has changed."""


def action_vector(spec: ActionSpec, value: Any) -> Array:
    """Return the action [A] of a message: the number of a discrete action, a list of numbers for several, or values.

    Raises:
        MessageError: if it does not fit.
    """
    values = value if isinstance(value, list) else [value]
    if len(values) != len(spec.sizes if spec.kind == "discrete" else range(spec.size)):
        raise MessageError(f"An action has {len(spec.sizes)} numbers here, not {len(values)}. No step was taken.")
    if not all(isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < 1e9 for each in values):
        raise MessageError("An action is a number, or a list of numbers. No step was taken.")
    if spec.kind == "continuous":
        if not all(-1 <= each <= 1 for each in values):
            raise MessageError("An action has values from -1 to 1. No step was taken.")
        return np.asarray(values, np.float32)
    parts = []
    for each, size in zip(values, spec.sizes, strict=True):
        if each != int(each) or not 0 <= each < size:
            raise MessageError(f"There is no action {each}: they are numbered from 0 to {size - 1}. No step was taken.")
        parts.append(np.eye(size, dtype=np.float32)[int(each)])
    return np.concatenate(parts)


def action_value(spec: ActionSpec, action: Array | None) -> Any:
    """Return the inverse of `action_vector`."""
    if action is None:
        return None
    if spec.kind == "continuous":
        return [float(each) for each in action]
    found, start = [], 0
    for size in spec.sizes:
        found.append(int(action[start : start + size].argmax()))
        start += size
    return found[0] if len(found) == 1 else found


def as_rgb(image: Array) -> NDArray[np.uint8]:
    """Return an image with three channels; of other numbers, as in stacked frames, the last one is shown."""
    return image if image.shape[-1] == 3 else np.repeat(image[..., -1:], 3, -1)


def encode_image(image: Array) -> str:
    """Return an image as PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(as_rgb(image)).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()


def unknown(what: str, given: Any, known: Collection[str]) -> MessageError:
    """Return the error of a name that there is not."""
    return MessageError(f"There is no {what} '{given}'{did_you_mean(str(given), known, 'there are')} Nothing was done.")


def read_integer(message: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """Return a whole number of a message; raise MessageError if it is none, or beyond the bounds."""
    value = message.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise MessageError(f"{name} must be a whole number from {low} to {high}. Nothing was done.")
    return value


def read_number(message: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """Return a number of a message; raise MessageError if it is none, or beyond the bounds."""
    value = message.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise MessageError(f"{name} must be a number from {low} to {high}. Nothing was done.")
    return float(value)


def parse_message(text: str | bytes) -> Any:
    """Return the JSON of a message; raise MessageError where it is none."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # half a character could not be sent back
        return value
    except (ValueError, RecursionError, binascii.Error):
        raise MessageError("A message must be JSON. Nothing was done.") from None

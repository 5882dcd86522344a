"""Pictures of the open-loop prediction: what happened, what the model dreamt, and the difference.

The model sees the first `context` frames and imagines the rest from the actions alone. A blue frame marks what it has
seen, an orange one what it imagines. A pink frame marks what really happened in another episode than the imagined one:
the model imagines on where an episode ends, so that the two cannot be compared there.
"""

import errno
import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reverie.errors import ReverieError
from reverie.runs.atomic_io import atomic_path

Frames = NDArray[np.uint8]
Color = tuple[int, int, int]

GROUND: Color = (24, 25, 28)
INK: Color = (222, 222, 218)
FAINT: Color = (140, 141, 145)
QUIET: Color = (58, 60, 66)
SEEN: Color = (86, 180, 233)
"""Sky blue of the Okabe-Ito palette, which colour-blind eyes tell from the orange."""
DREAMT: Color = (230, 159, 0)
OTHER: Color = (204, 121, 167)

ROWS = ("truth", "model", "error")
BORDER = 3
GAP = 8
GUTTER = 58
"""Pixels left of the tiles, for the names of the rows."""
HEADER = 30
LINE = 20
FONT_SIZE = 14
SUFFIXES = (".gif", ".mp4", ".png")
_ENCODER_FAILED = "the video encoder failed; the disk may be full"


def _to_rgb(images: NDArray[Any]) -> NDArray[np.float64]:
    """[…, C] in uint8 or in [0, 1] to […, 3] in [0, 1], not clipped.

    Three channels are colours. Of any other number the first is shown, in grey: most often frames are stacked there.
    """
    scaled = images / 255.0 if images.dtype == np.uint8 else images.astype(np.float64)
    return scaled if images.shape[-1] == 3 else np.repeat(scaled[..., :1], 3, axis=-1)


def _to_uint8(images: NDArray[np.float64]) -> Frames:
    finite = np.nan_to_num(images, nan=0.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(finite, 0.0, 1.0) * 255.0).astype(np.uint8)


def compare(truth: NDArray[np.uint8], model: NDArray[Any]) -> Frames:
    """Truth, model and error as colour images.

    The error is (model - truth + 1) / 2 of images in [0, 1], as in the release's `video_pred`: grey where the model is
    right, light where it is too light, dark where it is too dark.

    Args:
        truth: uint8 [..., H, W, C].
        model: the same shape, uint8 or floats in [0, 1]; beyond that they are clipped, after the error is taken.

    Returns:
        uint8 [3, ..., H, W, 3], in the order of `ROWS`.

    Raises:
        ValueError: if the shapes differ or are no images.
    """
    if truth.shape != model.shape or truth.ndim < 3:
        raise ValueError(f"Truth {truth.shape} and model {model.shape} must be images of the same shape.")
    true, dreamt = _to_rgb(truth), _to_rgb(model)
    return np.stack([_to_uint8(true), _to_uint8(dreamt), _to_uint8((dreamt - true + 1) / 2)])


@cache
def _letters(text: str, anchor: str) -> tuple[NDArray[np.float64], int, int]:
    """How much of each pixel a text covers, [H, W] in [0, 1], and where its corner lies from its anchor.

    Edges are smooth, but in five steps only: a GIF has 256 colours, and they are for the images.
    """
    font: Any = ImageFont.load_default(FONT_SIZE)
    left, top, right, bottom = font.getbbox(text, anchor=anchor)
    left, top = math.floor(left), math.floor(top)
    canvas = Image.new("L", (math.ceil(right) - left, math.ceil(bottom) - top))
    ImageDraw.Draw(canvas).text((-left, -top), text, fill=255, font=font, anchor=anchor)
    return np.rint(np.asarray(canvas) / 51.0) / 5.0, left, top


def _write(picture: Frames, text: str, x: int, y: int, color: Color, anchor: str = "lm") -> None:
    """Draw text into a picture, in place. `anchor` as in Pillow: `lm` is left and middle, `mm` centred."""
    letters, left, top = _letters(text, anchor)
    left, top = max(x + left, 0), max(y + top, 0)
    place = picture[top : top + letters.shape[0], left : left + letters.shape[1]]
    # What does not fit into a very small picture is cut off.
    share = letters[: place.shape[0], : place.shape[1], None]
    place[:] = np.rint(place * (1 - share) + np.array(color) * share).astype(np.uint8)


def _enlarge(images: Frames, scale: int) -> Frames:
    return images.repeat(scale, axis=-3).repeat(scale, axis=-2)


def _framed(images: Frames, color: Color, border: int = BORDER) -> Frames:
    """[…, H, W, 3] with a border around each image."""
    height, width = images.shape[-3:-1]
    framed = np.empty((*images.shape[:-3], height + 2 * border, width + 2 * border, 3), np.uint8)
    framed[:] = color
    framed[..., border:-border, border:-border, :] = images
    return framed


def _phase(step: int, context: int) -> tuple[str, Color]:
    return ("seen", SEEN) if step < context else ("imagined", DREAMT)


def _other_episode(is_first: NDArray[np.bool_] | None, shape: tuple[int, ...], context: int) -> NDArray[np.bool_]:
    """[…, T]: whether a step belongs to another episode than the last one that the model has seen."""
    if is_first is None:
        return np.zeros(shape, bool)
    episode: NDArray[np.int64] = np.cumsum(is_first, -1) - is_first[..., :1]
    last = min(max(context - 1, 0), shape[-1] - 1)
    return np.asarray(episode != episode[..., last : last + 1])


def _legend(channels: int, others: bool) -> list[tuple[str, Color]]:
    colors = [("a colour: too much of it", FAINT)] if channels == 3 else []
    frames = [("pink frame: another episode", OTHER)] if others else []
    return [("error: grey is right", FAINT), ("light: too light", FAINT), ("dark: too dark", FAINT), *colors, *frames]


def _with_legend(picture: Frames, channels: int, others: bool) -> Frames:
    """The picture with an explanation of its colours below, in as many lines as its width asks for."""
    places, x, line = [], GAP, 0
    for text, color in _legend(channels, others):
        width = _letters(text, "lm")[0].shape[1]
        if x > GAP and x + width + GAP > picture.shape[1]:
            x, line = GAP, line + 1
        places.append((text, x, line, color))
        x += width + 2 * GAP
    below = np.full(((line + 1) * LINE + GAP, *picture.shape[1:]), GROUND, np.uint8)
    for text, x, line, color in places:
        _write(below, text, x, line * LINE + LINE // 2, color)
    return np.concatenate([picture, below])


def dream_frames(
    truth: NDArray[np.uint8],
    model: NDArray[Any],
    context: int,
    scale: int = 3,
    is_first: NDArray[np.bool_] | None = None,
) -> Frames:
    """The open-loop prediction as a video: truth over model over error, labelled, several sequences side by side.

    Args:
        truth: uint8 [T, H, W, C] or [B, T, H, W, C].
        model: the same shape, uint8 or floats in [0, 1].
        context: frames at the start that the model has seen.
        scale: pixels on the screen, each way, for every pixel of the images.
        is_first: whether an episode begins with a step, [T] or [B, T]; None where all steps are of one.

    Returns:
        uint8 [T, H', W', 3]; H' and W' are even, as video formats want it.
    """
    batch = truth.ndim == 5
    if truth.ndim not in (4, 5):
        raise ValueError(f"Truth has shape {truth.shape}, but must be [T, H, W, C] or [B, T, H, W, C].")
    rows = compare(truth if batch else truth[None], model if batch else model[None])
    _, sequences, length, height, width, _ = rows.shape
    tile_height, tile_width = height * scale + 2 * BORDER, width * scale + 2 * BORDER
    other = np.atleast_2d(_other_episode(is_first, truth.shape[:-3], context))
    shape = (HEADER + 3 * (tile_height + GAP), GUTTER + sequences * (tile_width + GAP))
    empty = np.full((*(side + side % 2 for side in shape), 3), GROUND, np.uint8)
    empty = _with_legend(empty, truth.shape[-1], bool(other.any()))
    tops = [HEADER + row * (tile_height + GAP) for row in range(3)]
    for name, top in zip(ROWS, tops, strict=True):
        _write(empty, name, 8, top + tile_height // 2, INK)
    video = np.empty((length, *empty.shape), np.uint8)
    digits = len(str(length - 1))
    for step in range(length):
        picture = empty.copy()
        phase, color = _phase(step, context)
        _write(picture, phase, GUTTER, HEADER // 2, color)
        _write(picture, f"t = {step:>{digits}}", picture.shape[1] - GAP, HEADER // 2, INK, "rm")
        for row, top in enumerate(tops):
            for sequence, tile in enumerate(_enlarge(rows[row, :, step], scale)):
                left = GUTTER + sequence * (tile_width + GAP)
                frame = color if ROWS[row] == "model" else OTHER if other[sequence, step] else QUIET
                picture[top : top + tile_height, left : left + tile_width] = _framed(tile, frame)
        video[step] = picture
    return video


def _columns(length: int, context: int, every: int | None) -> list[int]:
    """Time steps of a strip. By default some ten: the first and last that were seen, then evenly to the end."""
    if every is not None:
        return list(range(0, length, every))
    seen = sorted({0, context - 1}) if context else []
    rest = length - context
    if rest <= 0:
        return list(range(0, length, math.ceil(length / 10)))
    return seen + list(range(context, length, math.ceil(rest / 9)))


def dream_strip(
    truth: NDArray[np.uint8],
    model: NDArray[Any],
    context: int,
    every: int | None = None,
    scale: int = 2,
    is_first: NDArray[np.bool_] | None = None,
) -> Frames:
    """The open-loop prediction as one picture: rows truth, model and error, time from left to right.

    Args:
        truth: uint8 [T, H, W, C], or [B, T, H, W, C] for several, one below the other.
        model: the same shape, uint8 or floats in [0, 1].
        context: frames at the start that the model has seen.
        every: steps between two columns; None chooses some ten columns.
        scale: pixels in the picture, each way, for every pixel of the images.
        is_first: whether an episode begins with a step, [T] or [B, T]; None where all steps are of one.

    Returns:
        uint8 [H', W', 3].
    """
    if truth.ndim == 5:
        starts = [None] * len(truth) if is_first is None else is_first
        strips = [dream_strip(t, m, context, every, scale, f) for t, m, f in zip(truth, model, starts, strict=True)]
        return np.concatenate(strips)
    if truth.ndim != 4:
        raise ValueError(f"Truth has shape {truth.shape}, but must be [T, H, W, C] or [B, T, H, W, C].")
    steps = _columns(len(truth), context, every)
    other = _other_episode(is_first, truth.shape[:1], context)
    rows = _enlarge(compare(truth[steps], model[steps]), scale)
    _, _, height, width, _ = rows.shape
    tile_height, tile_width = height + 2 * BORDER, width + 2 * BORDER
    gap = GAP // 2
    lefts = [GUTTER + column * (tile_width + gap) for column in range(len(steps))]
    bottom = HEADER + 3 * (tile_height + gap)
    picture = np.full((bottom + HEADER - gap, lefts[-1] + tile_width + GAP, 3), GROUND, np.uint8)
    for row, name in enumerate(ROWS):
        top = HEADER + row * (tile_height + gap)
        _write(picture, name, 8, top + tile_height // 2, INK)
        for column, (step, left) in enumerate(zip(steps, lefts, strict=True)):
            color = _phase(step, context)[1] if name == "model" else OTHER if other[step] else QUIET
            picture[top : top + tile_height, left : left + tile_width] = _framed(rows[row, column], color)
    _mark_phases(picture, steps, lefts, tile_width, context)
    for before, step, left in zip([0, *steps], steps, lefts, strict=False):
        begins = is_first is not None and bool(is_first[before + 1 : step + 1].any())
        text, color = (f"{step}, new episode", OTHER) if begins else (str(step), FAINT)
        _write(picture, text, left + tile_width // 2, bottom + HEADER // 2 - gap, color, "mm")
    _write(picture, "t", 8, bottom + HEADER // 2 - gap, FAINT)
    return _with_legend(picture, truth.shape[-1], bool(other[steps].any()))


def _mark_phases(picture: Frames, steps: Sequence[int], lefts: Sequence[int], width: int, context: int) -> None:
    """A line above the columns that were seen, and one above those that were imagined, each with its name."""
    for seen in (True, False):
        columns = [left for step, left in zip(steps, lefts, strict=True) if (step < context) == seen]
        if columns:
            name, color = _phase(0 if seen else context, context)
            picture[HEADER - 8 : HEADER - 6, columns[0] : columns[-1] + width] = color
            _write(picture, name, columns[0], HEADER // 2 - 4, color)


def save_video(frames: Frames, path: Path, fps: float = 15) -> Path:
    """Write a video or a picture, in the format that the file's ending names.

    The file appears when it is complete: it is written under another name and then renamed. A GIF repeats for ever,
    and shows equal frames that follow each other as one long frame.

    Args:
        frames: uint8 [T, H, W, 3] for .gif and .mp4, or one picture [H, W, 3] for any of them.
        path: ends in .gif, .mp4 (H.264) or .png; missing folders are created.
        fps: frames per second.

    Returns:
        The path.

    Raises:
        ReverieError: if the ending is another one, if a .png should hold more than one picture, or if the file
            cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ReverieError(
            f"Cannot write '{path}': its ending says which format to use, and must be one of {', '.join(SUFFIXES)}."
        )
    frames = frames[None] if frames.ndim == 3 else frames
    if suffix == ".png" and len(frames) > 1:
        raise ReverieError(f"Cannot write {len(frames)} frames to '{path}': use .gif or .mp4 for a video.")
    with atomic_path(path) as temporary:
        {".gif": _save_gif, ".mp4": _save_mp4, ".png": _save_png}[suffix](frames, temporary, fps)
    return path


def _save_png(frames: Frames, path: Path, fps: float) -> None:
    Image.fromarray(frames[0]).save(path, optimize=True)


def _codes(frame: Frames) -> NDArray[np.uint32]:
    red, green, blue = (frame[..., channel].astype(np.uint32) for channel in range(3))
    return (red << 16 | green << 8 | blue).astype(np.uint32)


def _index_colors(frames: Frames) -> tuple[Frames, bytes]:
    """Indices [T, H, W] into one palette of at most 256 colours: exact if that many are enough, else the nearest.

    Pillow compares every pixel with the palette. Here every colour that occurs is, once, which is far less work.
    """
    occurs = np.zeros(1 << 24, bool)
    for frame in frames:
        occurs[_codes(frame)] = True
    used = np.flatnonzero(occurs)
    colors = np.stack([used >> 16, used >> 8 & 255, used & 255], axis=-1).astype(np.uint8)
    index = np.zeros(1 << 24, np.uint8)
    if len(used) <= 256:
        index[used] = np.arange(len(used))
        palette = colors.tobytes()
    else:
        # From frames, because how often a colour occurs matters. Dithering would flicker, and cost bytes.
        sample = frames[np.linspace(0, len(frames) - 1, min(len(frames), 16)).astype(int)]
        chosen = Image.fromarray(np.concatenate(sample)).quantize(256, dither=Image.Dither.NONE)
        nearest = Image.fromarray(colors[None]).quantize(palette=chosen, dither=Image.Dither.NONE)
        index[used] = np.asarray(nearest)[0]
        palette = bytes(chosen.getpalette() or b"")
    return np.stack([index[_codes(frame)] for frame in frames]), palette


def _save_gif(frames: Frames, path: Path, fps: float) -> None:
    indices, palette = _index_colors(frames)
    pictures = [Image.fromarray(picture) for picture in indices]
    for picture in pictures:
        picture.putpalette(palette)
    # A GIF counts in hundredths of a second; borders are rounded, so that the whole keeps its length.
    borders = [round(100 * index / fps) for index in range(len(pictures) + 1)]
    durations = [10 * max(b - a, 2) for a, b in pairwise(borders)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def _save_mp4(frames: Frames, path: Path, fps: float) -> None:
    # Imported late: it looks for its encoder program, which other formats do not need.
    try:
        import imageio.v3 as imageio
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ReverieError(
            f"An .mp4 cannot be written here ({error}); type `pip install imageio-ffmpeg`, or choose .gif."
        ) from error

    path.touch()  # where this is not allowed, it says so in plainer words than the encoder does
    # H.264 wants even sides: the last row and column are repeated where they are odd.
    padded = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    options: dict[str, Any] = {"codec": "libx264", "quality": 8, "macro_block_size": 2, "ffmpeg_log_level": "quiet"}
    try:
        imageio.imwrite(path, padded, plugin="FFMPEG", fps=fps, **options)
        whole = b"moov" in path.read_bytes()  # the encoder ends with its table, and says nothing if it could not
    except OSError as error:
        raise OSError(errno.EIO, _ENCODER_FAILED) from error
    if not whole:
        raise OSError(errno.EIO, _ENCODER_FAILED)

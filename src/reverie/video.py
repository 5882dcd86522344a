"""Pictures of the open-loop prediction: truth, model, and error.

The model sees the first `context` frames and imagines the rest from the actions alone. A blue frame marks what it has
seen, an orange one what it imagines. A pink frame marks truth of another episode than the imagined one: the model
imagines on where an episode ends, so that the two cannot be compared there.
"""

import errno
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reverie.errors import ReverieError
from reverie.runs.atomic_io import atomic_path

Frames = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Color = tuple[int, int, int]

GROUND: Color = (24, 25, 28)
INK: Color = (222, 222, 218)
FAINT: Color = (140, 141, 145)
QUIET: Color = (58, 60, 66)
SEEN: Color = (86, 180, 233)
"""Sky blue of the Okabe-Ito palette, which colour-blind eyes distinguish from the orange."""
DREAMT: Color = (230, 159, 0)
OTHER: Color = (204, 121, 167)

PHASES = {True: ("seen", SEEN), False: ("imagined", DREAMT)}
ROWS = ("truth", "model", "error")
BORDER = 3
GAP = 8
GUTTER = 58  # left of the tiles, for the names of the rows
HEADER = 30
LINE = 20
FONT: Any = ImageFont.load_default(14)
SHADES = [51 * round(shade / 51) for shade in range(256)]
SUFFIXES = (".gif", ".mp4", ".png")


def compare(truth: Frames, model: NDArray[Any]) -> Frames:
    """Return truth, model and error as colour images.

    The error is (model - truth + 1) / 2 of images in [0, 1], as in the release's `video_pred`: grey where the model is
    right, light where it is too light, dark where it is too dark. Three channels are colours; of any other number the
    first is shown in grey, since frames are usually stacked there.

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
    true, dreamt = (images / 255.0 if images.dtype == np.uint8 else images.astype(float) for images in (truth, model))
    if truth.shape[-1] != 3:
        true, dreamt = (np.repeat(images[..., :1], 3, axis=-1) for images in (true, dreamt))
    rows = np.nan_to_num(np.stack([true, dreamt, (dreamt - true + 1) / 2]), nan=0.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(rows, 0.0, 1.0) * 255.0).astype(np.uint8)


def dream_frames(
    truth: Frames, model: NDArray[Any], context: int, scale: int = 3, is_first: Bools | None = None
) -> Frames:
    """Draw the open-loop prediction as a video: truth over model over error, labelled, sequences from left to right.

    Args:
        truth: uint8 [T, H, W, C] or [B, T, H, W, C].
        model: the same shape, uint8 or floats in [0, 1].
        context: frames at the start that the model has seen.
        scale: pixels on the screen, each way, for every pixel of the images.
        is_first: whether an episode begins with a step, [T] or [B, T]; None where all steps are of one.

    Returns:
        uint8 [T, H', W', 3]; H' and W' are even, as video formats require.
    """
    if truth.ndim not in (4, 5):
        raise ValueError(f"Truth has shape {truth.shape}, but must be [T, H, W, C] or [B, T, H, W, C].")
    rows = compare(truth, model).reshape(3, -1, *truth.shape[-4:-1], 3).repeat(scale, 3).repeat(scale, 4)
    _, sequences, length, height, width, _ = rows.shape
    step_y, step_x = height + 2 * BORDER + GAP, width + 2 * BORDER + GAP
    other = np.atleast_2d(_other_episode(is_first, truth.shape[:-3], context))
    shape = (GUTTER + sequences * step_x + 1) // 2 * 2, (HEADER + 3 * step_y + 1) // 2 * 2
    empty = _with_legend(Image.new("RGB", shape, GROUND), truth.shape[-1], bool(other.any()))
    for row, name in enumerate(ROWS):
        _write(empty, name, 8, HEADER + row * step_y + (height + 2 * BORDER) // 2, INK)
    video = np.empty((length, *np.asarray(empty).shape), np.uint8)
    for step in range(length):
        picture = empty.copy()
        phase, color = PHASES[step < context]
        _write(picture, phase, GUTTER, HEADER // 2, color)
        _write(picture, f"t = {step:>{len(str(length - 1))}}", picture.width - GAP, HEADER // 2, INK, "rm")
        for row, name in enumerate(ROWS):
            for sequence in range(sequences):
                frame = _frame(name, step < context, other[sequence, step])
                _tile(picture, rows[row, sequence, step], GUTTER + sequence * step_x, HEADER + row * step_y, frame)
        video[step] = picture
    return video


def dream_strip(
    truth: Frames, model: NDArray[Any], context: int, every: int | None = None, scale: int = 2,
    is_first: Bools | None = None,
) -> Frames:  # fmt: skip
    """Draw the open-loop prediction as one picture: rows truth, model and error, time from left to right.

    Several sequences are drawn one below the other, in uint8 [H', W', 3]. `every` is the number of steps between two
    columns; None chooses some ten columns. The other arguments are those of `dream_frames`.
    """
    if truth.ndim == 5:
        starts = [None] * len(truth) if is_first is None else is_first
        strips = [dream_strip(t, m, context, every, scale, f) for t, m, f in zip(truth, model, starts, strict=True)]
        return np.concatenate(strips)
    if truth.ndim != 4:
        raise ValueError(f"Truth has shape {truth.shape}, but must be [T, H, W, C] or [B, T, H, W, C].")
    steps = _columns(len(truth), context, every)
    other = _other_episode(is_first, truth.shape[:1], context)
    rows = compare(truth[steps], model[steps]).repeat(scale, 2).repeat(scale, 3)
    height, width, gap = rows.shape[2] + 2 * BORDER, rows.shape[3] + 2 * BORDER, GAP // 2
    lefts = [GUTTER + column * (width + gap) for column in range(len(steps))]
    bottom = HEADER + 3 * (height + gap)
    picture = Image.new("RGB", (lefts[-1] + width + GAP, bottom + HEADER - gap), GROUND)
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(ROWS):
        top = HEADER + row * (height + gap)
        _write(picture, name, 8, top + height // 2, INK)
        for image, step, left in zip(rows[row], steps, lefts, strict=True):
            _tile(picture, image, left, top, _frame(name, step < context, other[step]))
    for is_seen in (True, False):  # a line over the columns that were seen, and one over those that were imagined
        columns = [left for step, left in zip(steps, lefts, strict=True) if (step < context) == is_seen]
        if columns:
            phase, color = PHASES[is_seen]
            draw.rectangle((columns[0], HEADER - 8, columns[-1] + width - 1, HEADER - 7), color)
            _write(picture, phase, columns[0], HEADER // 2 - 4, color)
    for before, step, left in zip([0, *steps], steps, lefts, strict=False):
        begins = is_first is not None and bool(is_first[before + 1 : step + 1].any())
        text, color = (f"{step}, new episode", OTHER) if begins else (str(step), FAINT)
        _write(picture, text, left + width // 2, bottom + HEADER // 2 - gap, color, "mm")
    _write(picture, "t", 8, bottom + HEADER // 2 - gap, FAINT)
    return np.asarray(_with_legend(picture, truth.shape[-1], bool(other[steps].any())))


def _columns(length: int, context: int, every: int | None) -> list[int]:
    """Return the time steps of a strip, by default some ten: the first and last that were seen, then evenly."""
    if every is not None or context >= length:
        return list(range(0, length, every or math.ceil(length / 10)))
    seen = {0, context - 1} if context else set()
    return sorted(seen | set(range(context, length, math.ceil((length - context) / 9))))


def _frame(row: str, is_seen: bool, is_other: np.bool_) -> Color:
    if row == "model":
        return PHASES[is_seen][1]
    return OTHER if is_other else QUIET


def _other_episode(is_first: Bools | None, shape: tuple[int, ...], context: int) -> Bools:
    """Return [..., T], whether a step belongs to another episode than the last one that the model has seen."""
    if is_first is None:
        return np.zeros(shape, bool)
    episode: NDArray[np.int64] = np.cumsum(is_first, -1) - is_first[..., :1]
    last = min(max(context - 1, 0), shape[-1] - 1)
    return np.asarray(episode != episode[..., last : last + 1])


def _write(picture: Image.Image, text: str, x: int, y: int, color: Color, anchor: str = "lm") -> None:
    """Write text with edges in five shades: a GIF has 256 colours, and they are for the images."""
    left, top, right, bottom = (round(side) for side in FONT.getbbox(text, anchor=anchor))
    mask = Image.new("L", (right - left + 1, bottom - top + 1))
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=FONT, anchor=anchor)
    picture.paste(color, (x + left, y + top), mask.point(SHADES))


def _tile(picture: Image.Image, image: Frames, left: int, top: int, color: Color) -> None:
    """Draw an image with a frame whose corner is here."""
    height, width = image.shape[:2]
    picture.paste(color, (left, top, left + width + 2 * BORDER, top + height + 2 * BORDER))
    picture.paste(Image.fromarray(image), (left + BORDER, top + BORDER))


def legend(channels: int, has_others: bool) -> list[tuple[str, Color]]:
    """Return the words that explain the colours of a picture."""
    colors = [("a colour: too much of it", FAINT)] if channels == 3 else []
    frames = [("pink frame: another episode", OTHER)] if has_others else []
    return [("error: grey is right", FAINT), ("light: too light", FAINT), ("dark: too dark", FAINT), *colors, *frames]


def _with_legend(picture: Image.Image, channels: int, has_others: bool) -> Image.Image:
    """Return the picture over its legend, which has as many lines as the width requires."""
    places, x, line = [], GAP, 0
    for text, color in legend(channels, has_others):
        width = math.ceil(FONT.getlength(text))
        if x > GAP and x + width + GAP > picture.width:
            x, line = GAP, line + 1
        places.append((text, x, picture.height + line * LINE + LINE // 2, color))
        x += width + 2 * GAP
    whole = Image.new("RGB", (picture.width, picture.height + (line + 1) * LINE + GAP), GROUND)
    whole.paste(picture)
    for place in places:
        _write(whole, *place)
    return whole


def save_video(frames: Frames, path: Path, fps: float = 15) -> Path:
    """Write a video or a picture atomically, in the format of the file's ending.

    A GIF repeats without end, and shows equal frames that follow each other as one long frame.

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
        raise ReverieError(f"Cannot write '{path}': its ending must be one of {', '.join(SUFFIXES)}.")
    frames = frames[None] if frames.ndim == 3 else frames
    if suffix == ".png" and len(frames) > 1:
        raise ReverieError(f"Cannot write {len(frames)} frames to '{path}': use .gif or .mp4 for a video.")
    with atomic_path(path) as temporary:
        {".gif": _save_gif, ".mp4": _save_mp4, ".png": _save_png}[suffix](frames, temporary, fps)
    return path


def _save_png(frames: Frames, path: Path, fps: float) -> None:
    Image.fromarray(frames[0]).save(path, optimize=True)


def _save_gif(frames: Frames, path: Path, fps: float) -> None:
    pictures = list(_indexed(frames))
    # A GIF counts in hundredths of a second; borders are rounded, so that the whole keeps its length.
    borders = [round(100 * index / fps) for index in range(len(pictures) + 1)]
    durations = [10 * max(b - a, 2) for a, b in pairwise(borders)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def _indexed(frames: Frames) -> Iterator[Image.Image]:
    """Yield frames as indices into one palette of at most 256 colours: exact if these are enough, else the nearest.

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
        index[used] = np.asarray(Image.fromarray(colors[None]).quantize(palette=chosen, dither=Image.Dither.NONE))
        palette = bytes(chosen.getpalette() or b"")
    for frame in frames:
        picture = Image.fromarray(index[_codes(frame)])
        picture.putpalette(palette)
        yield picture


def _codes(frame: Frames) -> NDArray[np.uint32]:
    red, green, blue = (frame[..., channel].astype(np.uint32) for channel in range(3))
    return (red << 16 | green << 8 | blue).astype(np.uint32)


def _save_mp4(frames: Frames, path: Path, fps: float) -> None:
    import imageio.v3 as imageio  # imported late: it starts its encoder program, which other formats do not need

    path.touch()  # where this is not allowed, it says so in plainer words than the encoder does
    # H.264 requires even sides: the last row and column are repeated where they are odd.
    padded = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    options: dict[str, Any] = {"codec": "libx264", "quality": 8, "macro_block_size": 2, "ffmpeg_log_level": "quiet"}
    failure = OSError(errno.EIO, "the video encoder failed; the disk may be full")
    try:
        imageio.imwrite(path, padded, plugin="FFMPEG", fps=fps, **options)
    except OSError as error:
        raise failure from error
    if b"moov" not in path.read_bytes():  # the encoder ends with its table, and says nothing if it could not
        raise failure

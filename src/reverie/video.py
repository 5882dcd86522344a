"""Pictures of the open-loop prediction: truth, model, and error.

The model sees the first `context` frames and imagines the rest from the actions alone. A blue frame marks what it has
seen, an orange one what it imagines. A pink frame marks truth of another episode than the imagined one: the model
imagines on where an episode ends, so that the two cannot be compared there.
"""

import errno
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

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
    """Return truth, model and error as colour images, uint8 [3, ..., H, W, 3], in the order of `ROWS`.

    The error is (model - truth + 1) / 2 of images in [0, 1], as in the release's `video_pred`: grey where the model is
    right, light where it is too light, dark where it is too dark. Truth is uint8 [..., H, W, C], the model is uint8 or
    floats in [0, 1]; beyond that they are clipped, after the error is taken. Three channels are colours; of any other
    number the first is shown in grey, since frames are usually stacked there.
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
    rows, other = _rows(truth, model, context, scale, is_first)
    _, sequences, length, height, width, _ = rows.shape
    step_y, step_x = height + 2 * BORDER + GAP, width + 2 * BORDER + GAP
    shape = (GUTTER + sequences * step_x + 1) // 2 * 2, (HEADER + 3 * step_y + 1) // 2 * 2
    empty = _with_legend(Image.new("RGB", shape, GROUND), truth.shape[-1], bool(other.any()))
    for row, name in enumerate(ROWS):
        _write(empty, name, 8, HEADER + row * step_y + (height + 2 * BORDER) // 2, INK)
    video = []
    for step in range(length):
        picture = empty.copy()
        phase, color = PHASES[step < context]
        _write(picture, phase, GUTTER, HEADER // 2, color)
        _write(picture, f"t = {step:>{len(str(length - 1))}}", picture.width - GAP, HEADER // 2, INK, "rm")
        for row in range(3):
            for sequence in range(sequences):
                corner = GUTTER + sequence * step_x, HEADER + row * step_y
                _tile(picture, rows[row, sequence, step], corner, row, color, other[sequence, step])
        video.append(np.asarray(picture))
    return np.stack(video)


def dream_strip(
    truth: Frames, model: NDArray[Any], context: int, every: int | None = None, scale: int = 2,
    is_first: Bools | None = None,
) -> Frames:  # fmt: skip
    """Draw the open-loop prediction as one picture: rows truth, model and error, time from left to right.

    Several sequences are drawn one below the other, in uint8 [H', W', 3]. `every` is the number of steps between two
    columns; None chooses some ten columns. The other arguments are those of `dream_frames`.
    """
    rows, other = _rows(truth, model, context, scale, is_first)
    begins = np.zeros_like(other) if is_first is None else np.atleast_2d(is_first)
    strips = [
        _strip(*one, context, every, truth.shape[-1]) for one in zip(rows.swapaxes(0, 1), other, begins, strict=True)
    ]
    return np.concatenate(strips)


def _rows(truth: Frames, model: NDArray[Any], context: int, scale: int, is_first: Bools | None) -> tuple[Frames, Bools]:
    """Return enlarged truth, model and error [3, B, T, H, W, 3], and which steps are of another episode [B, T].

    Another one is any but that of the last step that the model has seen.
    """
    if truth.ndim not in (4, 5):
        raise ValueError(f"Truth has shape {truth.shape}, but must be [T, H, W, C] or [B, T, H, W, C].")
    rows = compare(truth, model).reshape(3, -1, *truth.shape[-4:-1], 3).repeat(scale, 3).repeat(scale, 4)
    if is_first is None:
        return rows, np.zeros(rows.shape[1:3], bool)
    episode: NDArray[np.int64] = np.cumsum(np.atleast_2d(is_first), -1) - np.atleast_2d(is_first)[:, :1]
    last = min(max(context - 1, 0), episode.shape[1] - 1)
    return rows, np.asarray(episode != episode[:, last : last + 1])


def _strip(rows: Frames, other: Bools, is_first: Bools, context: int, every: int | None, channels: int) -> Frames:
    """Draw the strip of one sequence [3, T, H, W, 3]."""
    steps = strip_columns(len(other), context, every)
    height, width, gap = rows.shape[2] + 2 * BORDER, rows.shape[3] + 2 * BORDER, GAP // 2
    lefts = [GUTTER + column * (width + gap) for column in range(len(steps))]
    bottom = HEADER + 3 * (height + gap)
    picture = Image.new("RGB", (lefts[-1] + width + GAP, bottom + HEADER - gap), GROUND)
    for row, name in enumerate(ROWS):
        top = HEADER + row * (height + gap)
        _write(picture, name, 8, top + height // 2, INK)
        for step, left in zip(steps, lefts, strict=True):
            _tile(picture, rows[row, step], (left, top), row, PHASES[step < context][1], other[step])
    for is_seen, (phase, color) in PHASES.items():  # a line over the columns that were seen, one over the imagined ones
        columns = [left for step, left in zip(steps, lefts, strict=True) if (step < context) == is_seen]
        if columns:
            picture.paste(color, (columns[0], HEADER - 8, columns[-1] + width, HEADER - 6))
            _write(picture, phase, columns[0], HEADER // 2 - 4, color)
    for before, step, left in zip([0, *steps], steps, lefts, strict=False):
        begins = is_first[before + 1 : step + 1].any()
        text, color = (f"{step}, new episode", OTHER) if begins else (str(step), FAINT)
        _write(picture, text, left + width // 2, bottom + HEADER // 2 - gap, color, "mm")
    _write(picture, "t", 8, bottom + HEADER // 2 - gap, FAINT)
    return np.asarray(_with_legend(picture, channels, bool(other[steps].any())))


def strip_columns(length: int, context: int, every: int | None = None) -> list[int]:
    """Return the time steps of a strip, by default some ten: the first and last that were seen, then evenly."""
    if every is not None or context >= length:
        return list(range(0, length, every or math.ceil(length / 10)))
    seen = {0, context - 1} if context else set()
    return sorted(seen | set(range(context, length, math.ceil((length - context) / 9))))


def _write(picture: Image.Image, text: str, x: int, y: int, color: Color, anchor: str = "lm") -> None:
    """Write text with edges in five shades: a GIF has 256 colours, and they are for the images."""
    left, top, right, bottom = (round(side) for side in FONT.getbbox(text, anchor=anchor))
    mask = Image.new("L", (right - left + 1, bottom - top + 1))
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=FONT, anchor=anchor)
    picture.paste(color, (x + left, y + top), mask.point(SHADES))


def _tile(
    picture: Image.Image, image: Frames, corner: tuple[int, int], row: int, phase: Color, is_other: np.bool_
) -> None:
    """Draw an image with a frame at this corner, in the colour of the phase if it is the model's."""
    color = phase if ROWS[row] == "model" else OTHER if is_other else QUIET
    picture.paste(ImageOps.expand(Image.fromarray(image), BORDER, color), corner)


def legend(channels: int, has_others: bool) -> list[tuple[str, Color]]:
    """Return the words that explain the colours of a picture."""
    words = ["error: grey is right", "light: too light", "dark: too dark"]
    words += ["a colour: too much of it"] if channels == 3 else []
    return [(text, FAINT) for text in words] + ([("pink frame: another episode", OTHER)] if has_others else [])


def _with_legend(picture: Image.Image, channels: int, has_others: bool) -> Image.Image:
    """Return the picture over its legend, which has as many lines as the width requires."""
    places, x, y = [], GAP, picture.height + LINE // 2
    for text, color in legend(channels, has_others):
        width = math.ceil(FONT.getlength(text))
        if x > GAP and x + width + GAP > picture.width:
            x, y = GAP, y + LINE
        places.append((text, x, y, color))
        x += width + 2 * GAP
    whole = Image.new("RGB", (picture.width, y + LINE - LINE // 2 + GAP), GROUND)
    whole.paste(picture)
    for place in places:
        _write(whole, *place)
    return whole


def save_video(frames: Frames, path: Path, fps: float = 15) -> Path:
    """Write a video or a picture atomically, in the format of the file's ending, and return its path.

    Frames are uint8 [T, H, W, 3] for .gif and .mp4 (H.264), or one picture [H, W, 3] for these and .png. A GIF repeats
    without end, and shows equal frames that follow each other as one long frame. Missing folders are created.

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
        if suffix == ".gif":
            _save_gif(frames, temporary, fps)
        elif suffix == ".mp4":
            _save_mp4(frames, temporary, fps)
        else:
            Image.fromarray(frames[0]).save(temporary, optimize=True)
    return path


def _save_gif(frames: Frames, path: Path, fps: float) -> None:
    """Write indices into one palette of at most 256 colours: exact if these are enough, else the nearest.

    Pillow would compare every pixel with the palette. Here every colour that occurs is, once, which is far less work.
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
    pictures = [Image.fromarray(index[_codes(frame)]) for frame in frames]
    for picture in pictures:
        picture.putpalette(palette)
    # A GIF counts in hundredths of a second; borders are rounded, so that the whole keeps its length.
    borders = [round(100 * step / fps) for step in range(len(pictures) + 1)]
    durations = [10 * max(b - a, 2) for a, b in pairwise(borders)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def _codes(frame: Frames) -> NDArray[np.uint32]:
    red, green, blue = np.moveaxis(frame.astype(np.uint32), -1, 0)
    return (red << 16 | green << 8 | blue).astype(np.uint32)


def _save_mp4(frames: Frames, path: Path, fps: float) -> None:
    import imageio.v3 as imageio  # imported late: it starts its encoder program, which other formats do not need

    path.touch()  # where this is not allowed, it says so in plainer words than the encoder does
    # H.264 requires even sides: the last row and column are repeated where they are odd.
    padded = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    options: dict[str, Any] = {"codec": "libx264", "quality": 8, "macro_block_size": 2, "ffmpeg_log_level": "quiet"}
    try:
        imageio.imwrite(path, padded, plugin="FFMPEG", fps=fps, **options)
        is_whole = b"moov" in path.read_bytes()  # the encoder ends with its table, and says nothing if it could not
    except OSError:
        is_whole = False
    if not is_whole:
        raise OSError(errno.EIO, "the video encoder failed; the disk may be full")

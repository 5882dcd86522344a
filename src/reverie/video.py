"""Pictures of the open-loop prediction: truth, model, and error.

The model sees the first `context` frames and imagines the rest from the actions alone. A blue frame marks what it has
seen, an orange one what it imagines. A pink frame marks truth of another episode than the imagined one: the model
imagines on where an episode ends, so that the two cannot be compared there.
"""

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
H264: dict[str, Any] = {"codec": "libx264", "quality": 8, "macro_block_size": 2, "ffmpeg_log_level": "quiet"}


def compare(truth: Frames, model: NDArray[Any]) -> Frames:
    """Return truth, model and error as colour images, uint8 [3, ..., H, W, 3], in the order of `ROWS`.

    The error is (model - truth + 1) / 2 of images in [0, 1], as in the release's `video_pred`: grey where the model is
    right, light where it is too light, dark where it is too dark. Truth is uint8 [..., H, W, C], the model is uint8 or
    floats in [0, 1]; beyond that they are clipped, after the error is taken. Three channels are colours; of any other
    number the first is shown in grey, since frames are usually stacked there.
    """
    true, dreamt = (images / 255.0 if images.dtype == np.uint8 else images.astype(float) for images in (truth, model))
    if truth.shape[-1] != 3:
        true, dreamt = (np.repeat(images[..., :1], 3, axis=-1) for images in (true, dreamt))
    rows = np.nan_to_num(np.stack([true, dreamt, (dreamt - true + 1) / 2]), nan=0.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(rows, 0.0, 1.0) * 255.0).astype(np.uint8)


def dream_frames(truth: Frames, model: NDArray[Any], context: int, is_first: Bools, scale: int = 3) -> Frames:
    """Draw the open-loop prediction as a video: truth over model over error, labelled, sequences from left to right.

    Args:
        truth: uint8 [B, T, H, W, C].
        model: the same shape, uint8 or floats in [0, 1].
        context: frames at the start that the model has seen.
        is_first: whether an episode begins with a step [B, T].
        scale: pixels on the screen, each way, for every pixel of the images.

    Returns:
        uint8 [T, H', W', 3]; H' and W' are even, as video formats require.
    """
    rows, other = _enlarged(truth, model, scale), _is_other_episode(is_first, context)
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


def dream_strip(truth: Frames, model: NDArray[Any], context: int, is_first: Bools, scale: int = 2) -> Frames:
    """Draw some ten steps of one sequence as one picture: rows truth, model and error, time from left to right.

    Arguments are those of `dream_frames` without B. Returns uint8 [H', W', 3].
    """
    rows, other = _enlarged(truth, model, scale), _is_other_episode(is_first, context)
    steps = strip_columns(len(truth), context)
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
    return np.asarray(_with_legend(picture, truth.shape[-1], bool(other[steps].any())))


def strip_columns(length: int, context: int) -> list[int]:
    """Return the time steps of a strip, some ten: the first and last that were seen, then evenly."""
    if context >= length:
        return list(range(0, length, math.ceil(length / 10)))
    seen = {0, context - 1} if context else set()
    return sorted(seen | set(range(context, length, math.ceil((length - context) / 9))))


def _enlarged(truth: Frames, model: NDArray[Any], scale: int) -> Frames:
    return compare(truth, model).repeat(scale, -3).repeat(scale, -2)


def _is_other_episode(is_first: Bools, context: int) -> Bools:
    """Return which steps [..., T] are of another episode than the last step that the model has seen."""
    episode: NDArray[np.int64] = np.cumsum(is_first, -1) - is_first[..., :1]
    last = min(max(context - 1, 0), is_first.shape[-1] - 1)
    return np.asarray(episode != episode[..., last : last + 1])


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


def _with_legend(picture: Image.Image, channels: int, has_others: bool) -> Image.Image:
    """Return the picture over the words that explain its colours, a line each."""
    legend = {"error: grey is right": FAINT, "light: too light": FAINT, "dark: too dark": FAINT}
    legend |= {"a colour: too much of it": FAINT} if channels == 3 else {}
    legend |= {"pink frame: another episode": OTHER} if has_others else {}
    whole = Image.new("RGB", (picture.width, picture.height + LINE * len(legend)), GROUND)
    whole.paste(picture)
    for number, (text, color) in enumerate(legend.items()):
        _write(whole, text, GAP, picture.height + LINE * number + LINE // 2, color)
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
    if suffix == ".mp4":
        with mp4_writer(path, fps) as append:
            for frame in frames:
                append(frame)
        return path
    # A GIF counts in hundredths of a second; borders are rounded, so that the whole keeps its length.
    borders = [round(100 * step / fps) for step in range(len(frames) + 1)]
    gif: dict[str, Any] = {
        "save_all": True,
        "duration": [10 * max(step, 2) for step in np.diff(borders).tolist()],
        "loop": 0,
    }
    first, *others = map(Image.fromarray, frames)
    with atomic_path(path) as temporary:
        first.save(temporary, optimize=True, **({**gif, "append_images": others} if suffix == ".gif" else {}))
    return path


@contextmanager
def mp4_writer(path: Path, fps: float) -> Iterator[Callable[[Frames], None]]:
    """Yield a function that appends a frame, uint8 [H, W, 3], to an .mp4 file, which is there when the block ends.

    Raises:
        ReverieError: if the file cannot be written; the old one is kept.
    """
    import imageio.v2 as imageio  # imported late: it starts its encoder program, which other formats do not need

    def append(frame: Frames) -> None:
        # H.264 requires even sides: the last row and column are repeated where they are odd.
        odd = ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0))
        writer.append_data(np.pad(frame, odd, mode="edge"))

    with atomic_path(path) as temporary:
        temporary.touch()  # where this is not allowed, it says so in plainer words than the encoder does
        writer: Any
        with imageio.get_writer(temporary, format="FFMPEG", fps=fps, **H264) as writer:
            yield append
        if b"moov" not in temporary.read_bytes():  # the encoder ends with its table, and says nothing if it could not
            raise OSError(errno.EIO, "the video encoder failed; the disk may be full")

"""Dream videos: what is drawn where, and files that can be read back."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reverie import video
from reverie.errors import ReverieError
from reverie.video import DREAMT, OTHER, QUIET, SEEN, compare, dream_frames, dream_strip, mp4_writer, save_video


def one_episode(*shape: int) -> NDArray[np.bool_]:
    return np.zeros(shape, bool)


def images(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_error_is_grey_where_the_model_is_right() -> None:
    truth = np.array([0, 128, 255, 255], np.uint8).reshape(1, 4, 1)
    model = np.array([0.0, 128 / 255, 0.0, 1.0]).reshape(1, 4, 1)
    shown = compare(truth, model)
    assert shown.shape == (3, 1, 4, 3)
    assert shown[0, 0, :, 0].tolist() == [0, 128, 255, 255]
    assert shown[1, 0, :, 0].tolist() == [0, 128, 0, 255]
    assert shown[2, 0, :, 0].tolist() == [128, 128, 0, 128]


def test_model_beyond_its_range_is_clipped_after_the_error_is_taken() -> None:
    truth = np.full((1, 1, 1), 255, np.uint8)
    shown = compare(truth, np.full((1, 1, 1), 1.5, np.float32))
    assert shown[:, 0, 0, 0].tolist() == [255, 255, 191]
    assert compare(truth, np.full((1, 1, 1), np.nan))[1].max() == 0


def test_floats_and_bytes_give_the_same_picture() -> None:
    truth, model = images(4, 5, 3), images(4, 5, 3, seed=1)
    assert np.array_equal(compare(truth, model), compare(truth, model / 255))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels(channels: int) -> None:
    truth = images(4, 5, channels)
    shown = compare(truth, truth)[0]
    expected = truth if channels == 3 else truth[..., :1].repeat(3, axis=-1)
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize("scale", [1, 3])
def test_frames_hold_truth_model_and_error(scale: int) -> None:
    truth, model = images(3, 4, 8, 10, 3), images(3, 4, 8, 10, 3, seed=1)
    frames = dream_frames(truth, model, 2, one_episode(3, 4), scale)
    assert frames.dtype == np.uint8 and frames.shape[0] == 4 and frames.shape[3] == 3
    assert frames.shape[1] % 2 == frames.shape[2] % 2 == 0
    shown = compare(truth, model)
    height, width = 8 * scale + 2 * video.BORDER, 10 * scale + 2 * video.BORDER
    for row in range(3):
        for sequence in range(3):
            top = video.HEADER + row * (height + video.GAP)
            left = video.GUTTER + sequence * (width + video.GAP)
            tile = frames[:, top : top + height, left : left + width]
            inside = tile[:, video.BORDER : -video.BORDER, video.BORDER : -video.BORDER]
            assert np.array_equal(inside[:, ::scale, ::scale], shown[row, sequence])
            assert np.array_equal(inside[:, scale - 1 :: scale, scale - 1 :: scale], shown[row, sequence])
            colors = [tuple(corner) for corner in tile[:, 0, 0]]
            assert colors == ([SEEN, SEEN, DREAMT, DREAMT] if row == 1 else [QUIET] * 4)


def ink(picture: NDArray[np.uint8]) -> int:
    """Pixels that are not ground."""
    return int((picture != np.array(video.GROUND)).any(-1).sum())


def test_frames_are_labelled() -> None:
    truth = np.zeros((1, 12, 64, 64, 1), np.uint8)
    frames = dream_frames(truth, truth, 5, one_episode(1, 12))
    for row in range(3):
        top = video.HEADER + row * (64 * 3 + 2 * video.BORDER + video.GAP)
        assert ink(frames[0, top : top + 192, : video.GUTTER - 2]) > 50
    header = frames[:, : video.HEADER]
    assert not np.array_equal(header[0], header[1])  # the time
    assert not np.array_equal(header[4, :, : video.GUTTER + 60], header[5, :, : video.GUTTER + 60])  # the phase
    assert np.array_equal(header[5, :, : video.GUTTER + 60], header[6, :, : video.GUTTER + 60])


def frame_colors(picture: NDArray[np.uint8], side: int, left: int, gap: int) -> list[tuple[int, ...]]:
    """Colours of the frames of truth, model and error, whose left edge is here."""
    return [tuple(picture[video.HEADER + row * (side + 2 * video.BORDER + gap), left].tolist()) for row in range(3)]


def test_dream_frames_another_episode_is_framed() -> None:
    """One episode ends while the model imagines, one while it still sees, and one begins with the sequence."""
    truth = images(3, 6, 8, 8, 3)
    is_first = np.zeros((3, 6), bool)
    is_first[0, 4] = is_first[1, 1] = is_first[2, 0] = True
    frames = dream_frames(truth, truth, 3, is_first, scale=1)
    expected = [[QUIET] * 4 + [OTHER] * 2, [OTHER] + [QUIET] * 5, [QUIET] * 6]
    for sequence, colors in enumerate(expected):
        left = video.GUTTER + sequence * (8 + 2 * video.BORDER + video.GAP)
        found = [frame_colors(frame, 8, left, video.GAP) for frame in frames]
        assert [one[0] for one in found] == [one[2] for one in found] == colors
        assert [one[1] for one in found] == [SEEN] * 3 + [DREAMT] * 3


def test_dream_strip_another_episode_is_framed_and_named() -> None:
    truth = images(12, 64, 64, 1)
    is_first = np.zeros(12, bool)
    is_first[7] = True
    plain = dream_strip(truth, truth, 3, one_episode(12), scale=1)
    marked = dream_strip(truth, truth, 3, is_first, scale=1)
    width = 64 + 2 * video.BORDER + video.GAP // 2
    found = [frame_colors(marked, 64, video.GUTTER + column * width, video.GAP // 2)[0] for column in range(11)]
    assert video.strip_columns(12, 3) == [0, *range(2, 12)]
    assert found == [QUIET] * 6 + [OTHER] * 5
    top = video.HEADER + 3 * width
    changed = (plain[top : top + 20] != marked[top : top + 20]).any((0, 2))
    middles = [video.GUTTER + column * width + 32 for column in range(11)]
    label = [changed[x - 30 : x + 30].any() for x in middles]
    assert label[6] and not label[4]
    assert np.array_equal(dream_strip(truth, truth, 3, np.eye(1, 12, dtype=bool)[0], scale=1), plain)


@pytest.mark.parametrize("channels", [1, 3])
def test_dream_pictures_explain_their_colors(channels: int) -> None:
    """The words fit below one sequence of 64 pixels; those of colours are there where there are some."""
    truth = np.zeros((2, 64, 64, channels), np.uint8)
    more = np.eye(2, dtype=bool)[1]
    for is_first in (one_episode(2), more):
        for picture in (
            dream_frames(truth[None], truth[None], 1, is_first[None])[0],
            dream_strip(truth, truth, 1, is_first),
        ):
            assert ink(picture[-video.HEADER :]) > 100
            assert ink(picture[:, -video.GAP // 2 :]) == 0  # nothing is cut off
            has_pink = (picture[-video.LINE :] == OTHER).all(-1).any()
            assert has_pink == is_first.any()


def test_strip_has_truth_frames_and_numbers() -> None:
    truth = images(50, 64, 64, 1)
    width, steps = 64 + 2 * video.BORDER + video.GAP // 2, [0, 4, *range(5, 50, 5)]
    strip = dream_strip(truth, truth, 5, one_episode(50), scale=1)
    assert strip.shape[1] == video.GUTTER + len(steps) * width - video.GAP // 2 + video.GAP
    top = video.HEADER + video.BORDER
    for column, step in enumerate(steps):
        left = video.GUTTER + column * width + video.BORDER
        assert np.array_equal(strip[top : top + 64, left : left + 64, 0], truth[step, ..., 0])
        model_border = strip[top + 64 + 2 * video.BORDER + video.GAP // 2 - 1, left]
        assert tuple(model_border) == (SEEN if step < 5 else DREAMT)
        # Its number, below.
        below = video.HEADER + 3 * (64 + 2 * video.BORDER + video.GAP // 2)
        assert ink(strip[below : below + video.HEADER - 4, left : left + 64]) > 10
    assert {tuple(color) for color in strip[video.HEADER - 8]} == {video.GROUND, SEEN, DREAMT}


@pytest.mark.parametrize(
    ("length", "context", "expected"),
    [
        (50, 5, [0, 4, 5, 10, 15, 20, 25, 30, 35, 40, 45]),
        (8, 1, [0, 1, 2, 3, 4, 5, 6, 7]),
        (4, 0, [0, 1, 2, 3]),
        (3, 5, [0, 1, 2]),
        (30, 30, [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]),
        (1, 1, [0]),
    ],
)
def test_strip_chooses_its_columns(length: int, context: int, expected: list[int]) -> None:
    assert video.strip_columns(length, context) == expected
    truth = np.zeros((length, 1, 1, 1), np.uint8)
    assert dream_strip(truth, truth, context, one_episode(length)).ndim == 3
    assert len(dream_frames(truth[None], truth[None], context, one_episode(1, length))) == length


def read_gif(path: Path) -> tuple[NDArray[np.uint8], list[int], Image.Image]:
    gif = Image.open(path)
    frames, durations = [], []
    for index in range(gif.n_frames):
        gif.seek(index)
        frames.append(np.asarray(gif.convert("RGB")))
        durations.append(gif.info["duration"])
    return np.stack(frames), durations, gif


def test_gif_of_few_colours_is_exact(tmp_path: Path) -> None:
    truth = np.zeros((1, 9, 16, 16, 1), np.uint8)
    for step in range(9):
        truth[0, step, step : step + 4, 3:7] = 20 + 25 * step
    frames = dream_frames(truth, truth, 3, one_episode(1, 9))
    assert save_video(frames, tmp_path / "new" / "dream.gif", fps=15) == tmp_path / "new" / "dream.gif"
    read, durations, gif = read_gif(tmp_path / "new" / "dream.gif")
    assert np.array_equal(read, frames)
    assert sum(durations) == 600 and set(durations) == {60, 70}
    assert gif.info["loop"] == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["dream.gif"]


def test_gif_of_many_colours_is_close(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    frames[..., 0], frames[..., 1] = ramp[:, None], ramp[None]
    for step, frame in enumerate(frames):
        frame[10 * step : 10 * step + 10] = 255 - 20 * step
    save_video(frames, tmp_path / "dream.gif")
    read, _, _ = read_gif(tmp_path / "dream.gif")
    assert read.shape == frames.shape
    assert np.abs(read.astype(int) - frames).mean() < 8


def test_mp4(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    frames = np.full((8, 33, 47, 3), 30, np.uint8)
    frames[:, 10:20, 10:20] = (np.arange(8) * 30)[:, None, None, None]
    save_video(frames, tmp_path / "dream.mp4", fps=10)
    read = imageio.imread(tmp_path / "dream.mp4", plugin="FFMPEG")
    assert read.shape == (8, 34, 48, 3)
    assert np.abs(read[:, :33, :47].astype(int) - frames).mean() < 4
    assert imageio.immeta(tmp_path / "dream.mp4", plugin="FFMPEG")["fps"] == 10


def test_png(tmp_path: Path) -> None:
    picture = images(5, 7, 3)
    save_video(picture, tmp_path / "strip.PNG")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "strip.PNG")), picture)
    with pytest.raises(ReverieError, match=r"use \.gif or \.mp4"):
        save_video(images(2, 5, 7, 3), tmp_path / "strip.png")


@pytest.mark.parametrize("name", ["dream.avi", "dream"])
def test_unknown_ending(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReverieError, match=r"one of \.gif, \.mp4, \.png"):
        save_video(images(2, 5, 7, 3), tmp_path / name)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_video(images(5, 7, 3), tmp_path / "strip.png")
    before = path.read_bytes()

    def fail(self: Image.Image, path: Path, **options: bool) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ReverieError, match="No space left"):
        save_video(images(5, 7, 3), path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["strip.png"]


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "videos").write_text("")
    with pytest.raises(ReverieError, match="Cannot write"):
        save_video(images(5, 7, 3), tmp_path / "videos" / "strip.png")


def test_mp4_writer_that_is_broken_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="the environment broke"), mp4_writer(path, 10) as append:
        append(images(32, 32, 3))
        assert path.read_bytes() == b"old"
        raise RuntimeError("the environment broke")
    assert path.read_bytes() == b"old" and [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    with mp4_writer(path, 10) as append:
        append(images(32, 32, 3))
    assert imageio.imread(path, plugin="FFMPEG").shape == (1, 32, 32, 3)

"""TensorBoard's files, read by TensorBoard."""

import io
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.trackers import open_loggers, video_at


def read(path: Path) -> EventAccumulator:
    return EventAccumulator(str(path / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()


def curve(path: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(path).Scalars(name)]


def test_tensorboard_scalars_are_read_while_the_run_trains(tmp_path: Path) -> None:
    loggers, _ = open_loggers(["tensorboard"], tmp_path)
    loggers.scalars(10, {"episode/return": 1.5, "model/kl": 0.25})
    assert curve(tmp_path, "episode/return") == [(10, 1.5)]
    loggers.scalars(20, {"episode/return": 2.5})
    loggers.scalars(20, {"eval/return": 3.5})
    loggers.close("finished")
    assert curve(tmp_path, "episode/return") == [(10, 1.5), (20, 2.5)]
    assert curve(tmp_path, "model/kl") == [(10, 0.25)]
    assert curve(tmp_path, "eval/return") == [(20, 3.5)]


def test_tensorboard_resumed_run_continues_without_doubled_steps(tmp_path: Path) -> None:
    loggers, _ = open_loggers(["tensorboard"], tmp_path)
    for step in (10, 20, 30):
        loggers.scalars(step, {"x": step})
    loggers.close("failed")
    loggers, _ = open_loggers(["tensorboard"], tmp_path, resumed_at=20)
    for step in (30, 40):
        loggers.scalars(step, {"x": step})
    loggers.close("finished")
    assert curve(tmp_path, "x") == [(10, 10), (20, 20), (30, 30), (40, 40)]


def test_tensorboard_resumed_amid_pretraining_has_each_update_once(tmp_path: Path) -> None:
    for resumed_at in (None, 50):  # steps do not advance while updates do
        loggers, _ = open_loggers(["tensorboard"], tmp_path, resumed_at)
        for update in (20, 40, 60, 80):
            loggers.scalars(update, {"pretraining/kl": update})
        loggers.close("interrupted")
    assert curve(tmp_path, "pretraining/kl") == [(20, 20), (40, 40), (60, 60), (80, 80)]


def test_tensorboard_video_is_an_animated_gif_of_the_same_frames(tmp_path: Path) -> None:
    loggers, _ = open_loggers(["tensorboard"], tmp_path)
    frames = np.zeros((5, 12, 16, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[:, 3 * index : 3 * index + 3] = (0, 255, 0)
    loggers.video(7, "model/dream", video_at(tmp_path / "v.gif", frames, fps=20))
    loggers.close("finished")
    [event] = read(tmp_path).Images("model/dream")
    assert (event.step, event.width, event.height) == (7, 16, 12)
    with Image.open(io.BytesIO(event.encoded_image_string)) as gif:
        assert (gif.format, gif.n_frames, gif.info["duration"], gif.info["loop"]) == ("GIF", 5, 50, 0)
        for index, frame in enumerate(frames):
            gif.seek(index)
            np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), frame)


# The writer's thread ends with the same error.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboard_full_disk_is_one_message_and_no_error(tmp_path: Path) -> None:
    loggers, messages = open_loggers(["tensorboard"], tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))
    try:
        for step in range(100):
            loggers.scalars(step, {f"metric/{name}": 1.0 for name in range(20)})
        loggers.close("finished")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [message] = messages
    assert message.startswith("Logger tensorboard failed (") and "File too large" in message

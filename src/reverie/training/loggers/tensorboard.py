"""TensorBoard event files in the run folder."""

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from reverie.runs.layout import TENSORBOARD
from reverie.training.loggers.logger import Logger, RunInfo, Status, Video


class TensorBoardLogger(Logger):
    """Writes event files that can be read while the run trains."""

    name = "tensorboard"
    discards_later_rows = True

    def __init__(self) -> None:
        # TensorBoard takes a second to import.
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
        from torch.utils.tensorboard import SummaryWriter

        self._summary, self._summary_writer = Summary, SummaryWriter
        self._writer: Any = None

    @override
    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> None:
        purge_step = None if run.resumed_at is None else run.resumed_at + 1
        self._writer = self._summary_writer(str(run.path / TENSORBOARD), purge_step=purge_step)

    @override
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._append(step, [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    @override
    def video(self, step: int, name: str, video: Video) -> None:
        # SummaryWriter.add_video needs moviepy.
        height, width = video.frames.shape[1:3]
        gif = video.path.read_bytes()
        image = self._summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
        self._append(step, [self._summary.Value(tag=name, image=image)])

    @override
    def close(self, status: Status) -> None:
        self._writer.close()

    def _append(self, step: int, values: list[Any]) -> None:
        self._writer.file_writer.add_summary(self._summary(value=values), step)
        # Errors of the writer's thread, such as a full disk, are raised here.
        self._writer.flush()

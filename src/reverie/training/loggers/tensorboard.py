"""TensorBoard event files in the run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import override

from reverie.runs.layout import TENSORBOARD
from reverie.training.loggers.logger import Logger, RunInfo, Status


class TensorBoardLogger(Logger):
    """Writes event files that can be read while the run trains."""

    name = "tensorboard"

    @override
    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
        from torch.utils.tensorboard import SummaryWriter  # takes a second

        self._summary: Any = Summary
        self._writer: Any = SummaryWriter(str(run.path / TENSORBOARD))

    @override
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._write(step, [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    @override
    def video(self, step: int, name: str, path: Path) -> None:
        # SummaryWriter.add_video needs moviepy.
        width, height = Image.open(path).size
        image = self._summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
        self._write(step, [self._summary.Value(tag=name, image=image)])

    @override
    def close(self, status: Status) -> None:
        self._writer.close()

    def _write(self, step: int, values: list[Any]) -> None:
        self._writer.file_writer.add_summary(self._summary(value=values), step)
        self._writer.flush()  # raises errors of the writer's thread, such as a full disk

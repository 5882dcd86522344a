"""TensorBoard event files, written in this thread.

PyTorch's own `SummaryWriter` writes in a thread of its own, where a full disk ends in a stack trace and not in an error
that anybody can catch.
"""

import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

_VERSION = "brain.Event:2"
RGB = 3
"""TensorBoard's number for the colour space of a picture."""


class EventFile:
    """A new event file in a folder; every method raises OSError where the disk does not let it.

    Args:
        directory: the folder, which is created if missing.
        purge_step: what earlier files of the folder say of this step and later ones is hidden; None hides nothing.
    """

    def __init__(self, directory: Path, purge_step: int | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        stem = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        number = 0
        while (path := directory / f"{stem}.{number}").exists():
            number += 1
        self._file = path.open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version=_VERSION))
        if purge_step is not None:
            log = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=purge_step, session_log=log))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Append numbers of one step, and hand them to the operating system."""
        self._summary([Summary.Value(tag=name, simple_value=value) for name, value in values.items()], step)
        self._file.flush()

    def picture(self, name: str, encoded: bytes, height: int, width: int, step: int) -> None:
        """Append a picture: the content of a PNG or GIF file."""
        image = Summary.Image(height=height, width=width, colorspace=RGB, encoded_image_string=encoded)
        self._summary([Summary.Value(tag=name, image=image)], step)

    def close(self) -> None:
        """Write out what is pending."""
        self._file.close()

    def __enter__(self) -> "EventFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _summary(self, values: list[Any], step: int) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())

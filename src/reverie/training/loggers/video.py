"""A video as loggers get it."""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reverie.video import save_video


class Video:
    """Frames, and a GIF file that shows them, which is encoded once for all loggers.

    Args:
        frames: uint8 [T, H, W, 3].
        fps: frames per second.
        gif: content of the file, if it was encoded before.
    """

    def __init__(self, frames: NDArray[np.uint8], fps: float, gif: bytes | None = None) -> None:
        self.frames = frames
        self.fps = fps
        self._gif = gif

    @property
    def gif(self) -> bytes:
        """Content of a GIF file."""
        if self._gif is None:
            with tempfile.TemporaryDirectory() as folder:
                self._gif = save_video(self.frames, Path(folder) / "video.gif", self.fps).read_bytes()
        return self._gif

"""Videos for trackers, as GIF files in memory: they need no video encoder."""

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray


def encode_gif(frames: NDArray[np.uint8], fps: float) -> bytes:
    """Return the content of a GIF file that repeats.

    Args:
        frames: uint8 [T, H, W, 3].
        fps: frames per second.
    """
    return bytes(iio.imwrite("<bytes>", frames, extension=".gif", duration=1000 / fps, loop=0))

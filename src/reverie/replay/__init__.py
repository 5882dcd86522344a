"""Experience on disk, and the training sequences drawn from it. Knows numpy, not torch.

`storage.py` is the replay itself; `segments.py` holds the arrays, `index.py` knows which episodes they form,
`index_file.py` keeps that on disk, and `sampling.py` draws windows.
"""

from reverie.replay.sampling import window_start
from reverie.replay.storage import Replay

__all__ = ["Replay", "window_start"]

"""Experience on disk, and the training sequences drawn from it. Knows numpy, not torch.

`storage.py` is the replay itself; `segments.py` holds the arrays, `index.py` knows which episodes they form,
`index_file.py` keeps that on disk, `sampling.py` draws windows, `reading.py` looks at another program's replay, and
`verifying.py` compares everything with its checksum.
"""

from reverie.replay.index_file import INDEX
from reverie.replay.reading import ReplayReader
from reverie.replay.sampling import window_start
from reverie.replay.segments import largest_size
from reverie.replay.storage import ReplayBuffer
from reverie.replay.verifying import ReplayHealth, examine, repair

__all__ = ["INDEX", "ReplayBuffer", "ReplayHealth", "ReplayReader", "examine", "largest_size", "repair", "window_start"]

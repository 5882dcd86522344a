"""Experience in an SQLite file, and the training sequences drawn from it. Knows numpy, not torch.

Start with `buffer.py`, the replay itself. `index.py` holds the episodes and the rule by which they are evicted,
`sampling.py` draws windows, `database.py` is the file, `reader.py` reads the replay of another process, and `verify.py`
finds and removes damage.
"""

from reverie.replay.buffer import TRANSACTION_STEPS, ReplayBuffer
from reverie.replay.database import REPLAY, has_steps, largest_size
from reverie.replay.reader import ReplayReader
from reverie.replay.sampling import window_start
from reverie.replay.verify import repair, verify

__all__ = [
    "REPLAY",
    "TRANSACTION_STEPS",
    "ReplayBuffer",
    "ReplayReader",
    "has_steps",
    "largest_size",
    "repair",
    "verify",
    "window_start",
]

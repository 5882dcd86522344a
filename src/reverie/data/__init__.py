"""Recorded episodes: into a replay, out of it, and what is in them.

Start with `episodes.py`: an `Episode` and a `Recording`, what every format is read into and written from. Each format
is a module (`npz.py`, `minari.py`, `vd4rl.py`, `folder.py`, `lerobot.py`, `replay.py`) whose docstring has its layout;
`formats.py` finds the one of a path. `adapter.py` converts recorded observations and actions to the agent's,
`transfer.py` imports and exports, `summary.py` and `sheet.py` show what is there, `sequences.py` is for PyTorch.
"""

from reverie.data.episodes import Episode, Recording
from reverie.data.formats import FORMATS, open_recording
from reverie.data.summary import Summary, summarize
from reverie.data.transfer import export_episodes, import_episodes

__all__ = [
    "FORMATS",
    "Episode",
    "Recording",
    "Summary",
    "export_episodes",
    "import_episodes",
    "open_recording",
    "summarize",
]

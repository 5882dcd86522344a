"""Training of an agent in a run folder.

Start with `trainer.py`, the loop. `build.py` creates what it calls, `start.py` is the entry point. `callbacks.py` is
the interface of everything that watches a run: `evaluation.py`, `videos.py`, `metrics_log.py`, `display.py`,
`checkpointing.py`. `train_state.py` lists what a checkpoint holds.
"""

from reverie.runs.provenance import Launch
from reverie.training.evaluation import evaluate
from reverie.training.start import train, train_config

__all__ = ["Launch", "evaluate", "train", "train_config"]

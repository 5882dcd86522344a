"""Outputs that a run's metrics and videos go to, in addition to `metrics.jsonl`.

`logger.py` has the interface, `tensorboard.py` and `trackers.py` implement it, `loggers.py` has the set of one run.
"""

from reverie.training.loggers.logger import Logger, RunInfo
from reverie.training.loggers.loggers import LOGGERS, Loggers, make_logger

__all__ = ["LOGGERS", "Logger", "Loggers", "RunInfo", "make_logger"]

"""Outputs that a run's metrics and videos go to, in addition to `metrics.jsonl`.

`logger.py` has the interface, `registry.py` the names, `loggers.py` the set of loggers of one run. Each other module is
one tracker; its package is imported when the logger is made.
"""

from reverie.training.loggers.logger import Logger, RunInfo, Video
from reverie.training.loggers.loggers import Loggers
from reverie.training.loggers.registry import LOGGERS, make_logger

__all__ = ["LOGGERS", "Logger", "Loggers", "RunInfo", "Video", "make_logger"]

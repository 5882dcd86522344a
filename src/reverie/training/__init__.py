"""Runs: the training loop, what it writes, and what is read back from it."""

from reverie.runs.launches import Origin
from reverie.training.evaluation import evaluate
from reverie.training.start import train, train_config

__all__ = ["Origin", "evaluate", "train", "train_config"]

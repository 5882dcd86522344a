"""Runs: the training loop, what it writes, and what is read back from it."""

from reverie.training.about import Origin
from reverie.training.evaluation import evaluate, evaluate_run
from reverie.training.loading import load
from reverie.training.start import train, train_config

__all__ = ["Origin", "evaluate", "evaluate_run", "load", "train", "train_config"]

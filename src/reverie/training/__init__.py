"""Runs: the training loop, what it writes, and what is read back from it."""

from reverie.runs.provenance import Launch
from reverie.training.evaluation import evaluate, evaluate_run
from reverie.training.start import train, train_config

__all__ = ["Launch", "evaluate", "evaluate_run", "train", "train_config"]

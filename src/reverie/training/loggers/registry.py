"""Loggers by name."""

from reverie.errors import ConfigError
from reverie.training.loggers.logger import Logger
from reverie.training.loggers.mlflow import MlflowLogger
from reverie.training.loggers.tensorboard import TensorBoardLogger
from reverie.training.loggers.trackio import TrackioLogger
from reverie.training.loggers.wandb import WandbLogger

LOGGERS: dict[str, type[Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
    "trackio": TrackioLogger,
}
"""By the name that `--log` takes. An own class can be added."""


def make_logger(name: str) -> Logger:
    """Create a logger; raise ConfigError if the name is unknown, or its package is missing."""
    if name not in LOGGERS:
        raise ConfigError(f"There is no logger '{name}'. Nothing was started. Choose from: {', '.join(LOGGERS)}.")
    try:
        return LOGGERS[name]()
    except ImportError as error:
        raise ConfigError(
            f"Logger '{name}' is not installed ({error}). Nothing was started. Run: pip install 'reverie[{name}]'"
        ) from error

"""Choice of the collector."""

from functools import partial

from reverie.collectors.async_collector import AsyncCollector
from reverie.collectors.sync_collector import SyncCollector
from reverie.config import Config
from reverie.devices import resolve_device
from reverie.envs import EnvFactory, make_env


def make_collector(config: Config, seed: int, factory: EnvFactory | None) -> SyncCollector:
    """Create the environments, and what steps them: between updates, or during them (`training.async_collection`)."""
    device = resolve_device(config.training.device)
    can_restart = config.env.max_restarts_per_hour > 0
    make = partial(make_env, config.env, seed, factory, can_restart)
    setting = config.training.async_collection
    if setting == "on" or (setting == "auto" and device.type == "cuda"):
        return AsyncCollector(make, config.training.train_every, device)
    return SyncCollector(make())

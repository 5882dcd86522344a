"""Choice of the collector."""

from functools import partial

from reverie.collectors.async_collector import AsyncCollector
from reverie.collectors.collector import Collector
from reverie.collectors.offline_collector import OfflineCollector
from reverie.collectors.sync_collector import SyncCollector
from reverie.config import Config
from reverie.devices import resolve_device
from reverie.envs import EnvFactory, make_env
from reverie.specs import EnvSpec


def make_collector(config: Config, seed: int, factory: EnvFactory | None, recorded: EnvSpec | None = None) -> Collector:
    """Create the environments, and what steps them: between updates, during them, or in a cluster (`collect`).

    With collect=none there are none, and `recorded` is the spec of the recorded steps.
    """
    if config.training.collect == "none":
        assert recorded is not None
        return OfflineCollector(recorded, config.training.train_every, config.env.action_repeat)
    if config.training.collect == "ray":
        from reverie.scaling.ray_collector import RayCollector  # takes a second, and Ray is an extra

        return RayCollector(config, seed, factory)
    device = resolve_device(config.training.device)
    can_restart = config.env.max_restarts_per_hour > 0
    make = partial(make_env, config.env, seed, factory, can_restart)
    setting = config.training.async_collection
    if setting == "on" or (setting == "auto" and device.type == "cuda"):
        return AsyncCollector(make, config.training.train_every, device)
    return SyncCollector(make())

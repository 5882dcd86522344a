"""A Ray cluster: that of an address, or one on this machine."""

import logging
import math
import os
import re
import signal
import socket
import threading
from typing import Any

from reverie.errors import ConfigError
from reverie.provenance import usable_cores

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ModuleNotFoundError as error:
    raise ConfigError(
        "Ray is not installed. Nothing was started. Install it with pip install 'reverie[ray]'."
    ) from error

__all__ = ["RayError", "RayTaskError", "connect", "has_place", "ray"]


def connect(address: str, cpus: float) -> bool:
    """Connect to a cluster, unless that was done, and return whether it was started here.

    Args:
        address: local starts one on this machine, auto finds the one that runs here, or HOST:PORT of its head.
        cpus: that one on this machine has at least, whatever its cores.

    Raises:
        ConfigError: if no cluster answers.
    """
    if ray.is_initialized():
        return False
    is_own = address == "local"
    size = max(usable_cores(), math.ceil(cpus))
    options: dict[str, Any] = {"num_cpus": size, "include_dashboard": False} if is_own else {}
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default the learner's threads would starve the collectors
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if host := re.fullmatch(r"([^/]+):(\d+)", address):  # Ray itself waits for minutes
            socket.create_connection((host[1], int(host[2])), timeout=10).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ConfigError(
            f"No Ray cluster answers at {address} ({reason}). Nothing was started. Start one with ray start --head, or "
            "give the address local for one on this machine."
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray's own exits at once, without a checkpoint, also after its end
    return is_own


def has_place(cpus: float, gpus: float) -> bool:
    """Return whether a machine of the cluster has so many CPUs and GPUs, whatever is free of them now."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    found = [node["Resources"] for node in nodes if node["Alive"]]
    return any(each.get("CPU", 0) >= cpus and each.get("GPU", 0) >= gpus for each in found)

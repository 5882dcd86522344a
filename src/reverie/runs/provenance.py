"""`about.json` of a run: what it was called, and every time that it was started, for whoever repeats it."""

import json
import platform
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from reverie.config import Config
from reverie.devices import device_name, precision_name, resolve_device, resolve_dtype
from reverie.provenance import commit, cpu_name, reverie_version
from reverie.runs.atomic_io import atomic_path, dumps_checksummed

ABOUT = "about.json"


class Launch(NamedTuple):
    """Where a configuration came from."""

    preset: str | None = None
    variant: str | None = None
    command: str | None = None
    """As typed in a shell; None for a run that was started from Python."""


UNNAMED = Launch()


def read_provenance(run: Path) -> dict[str, Any]:
    """The content of a run's `about.json`; empty where there is none that can be read."""
    try:
        about = json.loads((run / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def recorded_names(run: Path, origin: Launch = UNNAMED) -> tuple[str | None, str | None]:
    """Return the names of preset and variant that a run was first given; those of `origin` where it has none."""
    about = read_provenance(run)
    return about.get("preset") or origin.preset, about.get("variant") or origin.variant


def record_launch(run: Path, origin: Launch, step: int, config: Config) -> None:
    """Add a start to a run's `about.json`. A resumed run keeps the names that it was first given.

    Args:
        run: its folder.
        origin: preset and variant, and the command that starts it now.
        step: agent steps that the run has behind it.
        config: of the start, for the device and the precision that `auto` means on it.
    """
    about = read_provenance(run)
    preset, variant = recorded_names(run, origin)
    starts = about.get("starts", [])
    about = {
        "preset": preset,
        "variant": variant,
        "starts": [*(starts if isinstance(starts, list) else []), _start(origin, step, config)],
    }
    with atomic_path(run / ABOUT) as temporary:
        temporary.write_bytes(dumps_checksummed(about))


def runtime(config: Config) -> dict[str, Any]:
    """What must be the same for the same bits."""
    device = resolve_device(config.training.device)
    return {
        "torch": torch.__version__,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "precision": precision_name(resolve_dtype(device, config.training.precision)),
    }


def runtime_changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """In what a run computes otherwise than at a checkpoint, in a sentence; empty if in nothing."""
    changed = [
        f"{name} {before[name]} before, {value} now" for name, value in now.items() if before.get(name, value) != value
    ]
    if not changed:
        return ""
    return (
        f"This part of the run computes otherwise than the one before ({'; '.join(changed)}): it goes on with "
        "everything, but not bit for bit as it would have."
    )


def _start(origin: Launch, step: int, config: Config) -> dict[str, Any]:
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "step": step,
        "command": origin.command,
        "reverie": reverie_version(),
        "commit": commit(),
        "python": platform.python_version(),
        **runtime(config),
    }

"""The launches of a run: preset and variant, and each start with its command, versions and machine."""

import platform
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from reverie.config import Config
from reverie.devices import device_name, precision_name, resolve_device, resolve_dtype
from reverie.provenance import commit, cpu_name, reverie_version
from reverie.runs.atomic_io import Unreadable, atomic_write, dumps_checksummed, parse_json, read_file
from reverie.runs.layout import RunPaths


class Launch(NamedTuple):
    """A start of a run, as it was asked for."""

    preset: str | None = None
    variant: str | None = None
    command: str | None = None  # as typed in a shell; None for a run that was started from Python


UNNAMED = Launch()


class Provenance(NamedTuple):
    """Content of a run's `about.json`."""

    preset: str | None = None
    variant: str | None = None
    starts: tuple[Mapping[str, Any], ...] = ()  # time, step, command, commit and machine of each


def read_provenance(path: Path) -> Provenance:
    """Read an `about.json`. What is missing or damaged in it is left out."""
    try:
        about = parse_json(read_file(path))
    except Unreadable:
        about = {}
    preset, variant = (name if isinstance(name, str) else None for name in (about.get("preset"), about.get("variant")))
    starts = about["starts"] if isinstance(about.get("starts"), list) else []
    return Provenance(preset or None, variant or None, tuple(start for start in starts if isinstance(start, dict)))


def recorded_names(run: Path, launch: Launch = UNNAMED) -> tuple[str | None, str | None]:
    """Return the preset and variant that a run was first given; those of `launch` where it has none."""
    saved = read_provenance(RunPaths(run).provenance_path)
    return saved.preset or launch.preset, saved.variant or launch.variant


def record_launch(run: Path, launch: Launch, step: int, config: Config) -> None:
    """Add a start, at an agent step, to a run's `about.json`. A resumed run keeps the names that it was first given."""
    path = RunPaths(run).provenance_path
    preset, variant = recorded_names(run, launch)
    start = {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "step": step,
        "command": launch.command,
        "reverie": reverie_version(),
        "commit": commit(),
        "python": platform.python_version(),
        **runtime(config),
    }
    starts = [*read_provenance(path).starts, start]
    atomic_write(path, dumps_checksummed({"preset": preset, "variant": variant, "starts": starts}))


def runtime(config: Config) -> dict[str, Any]:
    """Return the conditions of bit-identical results."""
    device = resolve_device(config.training.device)
    return {
        "torch": torch.__version__,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "learners": config.training.learners,
        "device": device_name(device),
        "precision": precision_name(resolve_dtype(device, config.training.precision)),
    }


def runtime_changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return a sentence that names the conditions which differ from a checkpoint's; empty if none does."""
    pairs = [(name, before.get(name, value), value) for name, value in now.items()]
    changed = "; ".join(f"{name} {then} before, {value} now" for name, then, value in pairs if then != value)
    if not changed:
        return ""
    return f"Runtime changed since the checkpoint ({changed}). State is restored; results will not be bit-identical."

"""Which code runs on what: version, commit and hardware, as results name them."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path


def reverie_version() -> str | None:
    """Return the version of the installed package; None if it was not installed."""
    try:
        return metadata.version("reverie")
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The git commit that this code was imported from, `-dirty` if it was changed; None outside of a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def cpu_name() -> str:
    """Name of the processor."""
    return proc_entry("cpuinfo", "model name") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def proc_entry(file: str, entry: str) -> str:
    """The first value of an entry of a file in /proc; empty where there is none."""
    try:
        lines = Path("/proc", file).read_text().splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == entry), "")

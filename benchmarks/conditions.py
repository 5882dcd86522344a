"""What a measurement was made on and with; knows the standard library only, so that any Python can say it."""

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Of the processor: those that decide how fast matrices are multiplied."""


def report(row: dict[str, Any], out: Path | None) -> None:
    """Print a row with the machine that it was measured on, as JSON, and add it to a file."""
    line = json.dumps(row | machine())
    print(line, flush=True)
    if out:
        with out.open("a") as file:
            file.write(line + "\n")


def machine() -> dict[str, Any]:
    """Processor, its relevant flags, usable cores, and the commit of this checkout."""
    return {"cpu": _cpu("model name") or platform.machine(), "flags": _flags(), "cores": cores(), "commit": _commit()}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(*packages: str) -> dict[str, str]:
    """Of Python and of packages that this Python has installed."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def _flags() -> list[str]:
    present = _cpu("flags").split()
    return [flag for flag in FLAGS if flag in present]


def _cpu(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.partition(":")[0].strip() == field), "")


def _commit() -> str:
    try:
        command = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

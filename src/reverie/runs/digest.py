"""One hash over everything that is the same in two equal runs."""

import hashlib
import json
from pathlib import Path
from typing import Any

from reverie.errors import RunError
from reverie.replay import ReplayReader
from reverie.runs.checkpoints import Checkpoints, read_checkpoint, read_manifest, validate_contents
from reverie.runs.metrics import read_metrics
from reverie.runs.run_folder import RunFolder
from reverie.specs import EnvSpec

_TIMES = ("time", "perf/")
"""Prefixes of the metrics that differ from run to run."""


def digest(run: Path) -> dict[str, str]:
    """Return the SHA-256 of each part of a run as of its newest checkpoint, in hexadecimal, and of all as `run`.

    Two runs of one configuration, on one kind of machine with one number of threads, have equal digests however often
    they were stopped on the way. Times, speeds, the file system and `about.json` do not count.

    Args:
        run: its folder.

    Returns:
        By part: `weights` (with optimizers, random generators and all else that checkpoints hold as tensors), `state`
        (counters, schedules, environments), `replay`, `metrics`, `videos`; and `run`.

    Raises:
        RunError: if it is no run.
        CheckpointError: if its newest checkpoint is damaged.
        ReplayError: if its replay is damaged or gone.
    """
    folder = RunFolder(run)
    newest = Checkpoints(folder.checkpoints).latest()
    if newest is None:
        raise RunError(f"There is no checkpoint in {folder.checkpoints}. Give the folder of a run.")
    step, snapshot = read_checkpoint(newest)
    with validate_contents(newest):
        training = snapshot.state["training"]
        spec = EnvSpec.from_json(snapshot.state["spec"])
        with ReplayReader(folder.replay, spec.step, training["replay"]) as replay:
            stored = replay.digest()
        files = read_manifest(newest)["files"].items()
        tensors = {name: entry["sha256"] for name, entry in files if name.endswith(".safetensors")}
        videos = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.videos.glob("dream-*")}
        parts = {
            "weights": _hash(tensors),
            "state": _hash(_reproducible(snapshot.state)),
            "replay": stored,
            "metrics": _hash(_rows(folder, training["counters"]["rows"])),
            "videos": _hash({name: content for name, content in videos.items() if _number(name) <= step}),
        }
        return {**parts, "run": _hash(parts)}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _reproducible(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out times, the machine, and the replay's checksums, which cover the random number of its folder."""
    training = {**state["training"], "counters": {**state["training"]["counters"], "seconds": 0.0}}
    del training["counters"]["rows_sha256"], training["runtime"], training["callbacks"]
    training["metrics"] = {
        name: part for name, part in training["metrics"].items() if name not in ("seconds", "elapsed")
    }
    training["replay"] = {**training["replay"], "identity": 0}
    return {**state, "training": training}


def _rows(folder: RunFolder, count: int) -> list[dict[str, float]]:
    """Return the first rows of metrics, without times and speeds."""
    rows = read_metrics(folder.metrics)[:count] if folder.metrics.is_file() else []
    return [{name: value for name, value in row.items() if not name.startswith(_TIMES)} for row in rows]


def _number(name: str) -> int:
    """Return the step in a video's name."""
    return int("".join(filter(str.isdigit, name)) or 0)

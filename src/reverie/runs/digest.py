"""One hash over everything that is the same in two equal runs."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from reverie.envs.space_json import spec_from_json
from reverie.errors import RunError
from reverie.replay import ReplayReader
from reverie.runs.checkpoint import TENSORS, read_checkpoint, read_manifest, validate_contents
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.layout import RunPaths
from reverie.runs.metrics import read_metrics

_TIMES = ("time", "perf/")
"""Prefixes of the metrics that differ from run to run."""


def digest(run: Path) -> dict[str, str]:
    """Return the SHA-256 of each part of a run as of its newest checkpoint, in hexadecimal, and of all as `run`.

    Two runs of one configuration, on one kind of machine with one number of threads, have equal digests however often
    they were stopped on the way. Times, speeds, the file system and `about.json` do not count.

    Returns:
        By part: `weights` (with optimizers, random generators and all else that checkpoints hold as tensors), `state`
        (counters, schedules, environments), `replay`, `metrics`, `videos`; and `run`.

    Raises:
        RunError: if it is no run.
        CheckpointError: if its newest checkpoint is damaged.
        ReplayError: if its replay is damaged or gone.
    """
    paths = RunPaths(run)
    newest = Checkpoints(paths.checkpoints).latest()
    if newest is None:
        raise RunError(f"There is no checkpoint in {paths.checkpoints}. Give the folder of a run.")
    step, snapshot = read_checkpoint(newest)
    with validate_contents(newest):
        training = snapshot.state["training"]
        with ReplayReader(paths.replay, spec_from_json(snapshot.state["spec"]).step, training["replay"]) as replay:
            stored = replay.digest()
        rows = read_metrics(paths.metrics)[: training["counters"]["rows"]] if paths.metrics.is_file() else []
        videos = [path for path in paths.videos.glob("dream-*") if int(re.sub(r"\D", "", path.name) or 0) <= step]
        parts = {
            "weights": read_manifest(newest)["files"][TENSORS]["sha256"],
            "state": _hash(_reproducible(snapshot.state)),
            "replay": stored,
            "metrics": _hash([{n: value for n, value in row.items() if not n.startswith(_TIMES)} for row in rows]),
            "videos": _hash({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in videos}),
        }
        return {**parts, "run": _hash(parts)}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _reproducible(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out times, the machine, and the random number that identifies the replay."""
    training = {name: part for name, part in state["training"].items() if name not in ("runtime", "callbacks")}
    training["counters"] = {**training["counters"], "seconds": 0.0, "rows_sha256": ""}
    metrics = training["metrics"].items()
    training["metrics"] = {name: part for name, part in metrics if name not in ("seconds", "elapsed")}
    training["replay"] = {**training["replay"], "identity": 0}
    return {**state, "training": training}

"""One hash over everything that two equal runs must agree on."""

import hashlib
import json
from pathlib import Path
from typing import Any

from reverie.errors import RunError
from reverie.replay import ReplayReader
from reverie.runs.checkpoints import Checkpoints, read_checkpoint, understood
from reverie.runs.checkpoints.format import STATE, read_manifest
from reverie.runs.metrics import read_metrics
from reverie.runs.run_folder import RunFolder
from reverie.specs import EnvSpec

_OF_TIME = ("time", "speed/")
"""How the names of metrics begin that differ from run to run."""


def digest(run: Path) -> dict[str, str]:
    """What a run has computed, as of its newest checkpoint: SHA-256 of each part in hexadecimal, and of all as `run`.

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
        raise RunError(f"There is no checkpoint in {folder.checkpoints}; give the folder of a run.")
    step, snapshot = read_checkpoint(newest)
    with understood(newest):
        loop = snapshot.state["loop"]
        spec = EnvSpec.from_json(snapshot.state["spec"])
        with ReplayReader(folder.replay, spec.step, loop["replay"]) as replay:
            stored = replay.digest()
        files = {name: entry["sha256"] for name, entry in read_manifest(newest)["files"].items() if name != STATE}
        videos = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.videos.glob("dream-*")}
        parts = {
            "weights": _hash(files),
            "state": _hash(_without_chance(snapshot.state)),
            "replay": stored,
            "metrics": _hash(_rows(folder, loop["state"]["rows"])),
            "videos": _hash({name: content for name, content in videos.items() if _number(name) <= step}),
        }
        return {**parts, "run": _hash(parts)}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _without_chance(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state without times, the machine, and the number that was drawn for the replay."""
    loop = {**state["loop"], "state": {**state["loop"]["state"], "seconds": 0.0}}
    del loop["state"]["rows_sha256"], loop["machine"]
    loop["metrics"] = {name: part for name, part in loop["metrics"].items() if name not in ("seconds", "elapsed")}
    loop["replay"] = {**loop["replay"], "identity": 0}
    return {**state, "loop": loop}


def _rows(folder: RunFolder, count: int) -> list[dict[str, float]]:
    """The first rows of metrics, without what time decides."""
    rows = read_metrics(folder.metrics)[:count] if folder.metrics.is_file() else []
    return [{name: value for name, value in row.items() if not name.startswith(_OF_TIME)} for row in rows]


def _number(name: str) -> int:
    """The step in a video's name."""
    return int("".join(filter(str.isdigit, name)) or 0)

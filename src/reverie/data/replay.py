"""Replays of reverie: the folder of a run, a folder of imported data, or a `replay.db` by itself.

The spaces come from the newest checkpoint of a run, or from the `spaces.json` of imported data. A file by itself says
what a step holds, but not what its actions mean: they are discrete if all are one-hot.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from reverie.data.adapter import agent_spaces, infer_action_space
from reverie.data.episodes import Episode, Recording, check_episode, check_key, read_spec, reading
from reverie.envs.space_json import adapt, spec_from_json
from reverie.errors import DataError
from reverie.replay import REPLAY, ReplayBuffer
from reverie.runs.checkpoint import read_state, validate_contents
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.layout import RunPaths
from reverie.specs import STEP_KEYS, ActionSpec, ArraySpec, EnvSpec

_SAMPLE = 20  # episodes by which the kind of actions is found out


def detect(path: Path) -> bool:
    """Return whether a path is a replay, or holds one."""
    return path.suffix == ".db" or (path / REPLAY).is_file()


def open_replay(path: Path) -> Recording:
    """Open a replay for reading; its run may be training."""
    file = path / REPLAY if path.is_dir() else path
    spec = _spec(file)
    with ReplayBuffer(file) as replay:
        stored, num_unfinished = replay.steps, replay.num_unfinished
    if spec is None:
        spec = _inferred(file, stored)
    if stored != spec.step:
        raise DataError(f"{file} holds other steps than its folder says. Nothing was done. Open the file by itself.")

    def read() -> Iterator[Episode]:
        with ReplayBuffer(file) as replay:
            for episode in replay.episodes():
                with reading(file):
                    check_episode(episode, spec)
                yield episode

    recording = Recording(path, spec, read)
    if num_unfinished:
        recording.note(f"{num_unfinished:,} rows of unfinished episodes are left out.")
    return recording


def replay_spec(path: Path) -> EnvSpec:
    """Return the spaces of a run's replay, of imported data, or of a `replay.db` by itself."""
    return open_replay(path).spec


def _spec(file: Path) -> EnvSpec | None:
    newest = Checkpoints(RunPaths(file.parent).checkpoints).latest()
    if newest is None:
        return read_spec(file.parent)
    with validate_contents(newest):
        return spec_from_json(read_state(newest)["spec"], str(file.parent))


def _inferred(file: Path, steps: dict[str, ArraySpec]) -> EnvSpec:
    observations = {key: spec for key, spec in steps.items() if key not in STEP_KEYS and key != "action"}
    with reading(file), ReplayBuffer(file) as replay:
        for key in observations:
            check_key(key)
        actions = [episode["action"][1:] for episode in islice(replay.episodes(), _SAMPLE)]
        width = steps["action"].size
        action = infer_action_space(np.concatenate([np.zeros((1, width), np.float32), *actions]))
    spec = EnvSpec(observations, ActionSpec("continuous", (width,)))
    return adapt(agent_spaces(spec)[0], action, str(file))[2]

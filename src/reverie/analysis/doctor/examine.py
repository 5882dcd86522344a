"""A run as it lies on disk: its newest checkpoint, sequences from its replay or another one's, its metrics."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from reverie.agents import load
from reverie.analysis.doctor.learning import measure_learning
from reverie.analysis.doctor.measure import measure
from reverie.analysis.doctor.report import Report
from reverie.config import EnvConfig, load_config
from reverie.dreamer import Dreamer
from reverie.errors import RunError
from reverie.replay import ReplayReader
from reverie.runs.metrics import read_metrics
from reverie.runs.run_folder import RunFolder, find_run
from reverie.specs import Step

ENDINGS = 64
"""Ends of episodes that are looked up besides the uniform sample, where they are rare."""


@dataclass(frozen=True)
class Amount:
    """How much is looked at."""

    batches: int = 8
    """Batches of 16 sequences."""
    context: int = 5
    """Steps that the model sees before it imagines."""
    horizon: int = 45
    """H: steps that it then imagines. With the context, the length T of all sequences."""
    batch: int = 16
    """B."""

    @property
    def length(self) -> int:
        """T."""
        return self.context + self.horizon


def examine(
    run: Path,
    amount: Amount | None = None,
    seed: int | None = None,
    device: str = "auto",
    unseen: Path | None = None,
) -> Report:
    """Measure everything about a run. Nothing in its folder is written, and it may still be training.

    Args:
        run: a run folder (its newest checkpoint), or one of its checkpoints.
        amount: how much is looked at; None takes the defaults.
        seed: of the draws; None takes the run's.
        device: where the agent runs.
        unseen: another run of the same environment, whose replay is looked at, too.

    Raises:
        RunError: if there is no run, or it has no replay, or `unseen` is not another run of its environment
            or has seen nothing else.
        CheckpointError: if it has no checkpoint.
        ReplayError: if a replay is too short, or damaged.
    """
    amount = amount or Amount()
    checkpoint = find_run(run).checkpoint
    folder = RunFolder(checkpoint.parent.parent)
    if not _has_replay(folder):
        raise RunError(f"{run} has no replay beside it to look at; give the folder of the run that trained this agent.")
    agent = load(checkpoint, device)
    seed = agent.config.training.seed if seed is None else seed
    drawn = _draw(agent, folder, amount, seed)
    drawn_unseen = None if unseen is None else _draw_unseen(agent, folder, unseen, amount, seed)
    rows = read_metrics(folder.path) if folder.metrics.is_file() else []
    report = replace(
        _measure(agent, drawn, amount, seed), run=str(run), rows=rows, learning=measure_learning(rows, agent.config)
    )
    if drawn_unseen is None:
        return report
    return replace(report, unseen=replace(_measure(agent, drawn_unseen, amount, seed), run=str(unseen)))


class _Drawn(NamedTuple):
    """Sequences of a replay, [T, B, …] each."""

    batches: list[Step]
    endings: Step | None
    held: int
    """Steps that they were drawn from."""
    shared: int
    """Further steps, left out since the run that is examined has them, too."""


def _has_replay(folder: RunFolder) -> bool:
    return folder.replay.is_file()


def _draw(agent: Dreamer, folder: RunFolder, amount: Amount, seed: int) -> _Drawn:
    with ReplayReader(folder.replay, agent.spec.step) as reader:
        return _draw_from(reader, amount, seed)


def _draw_unseen(agent: Dreamer, folder: RunFolder, unseen: Path, amount: Amount, seed: int) -> _Drawn:
    """Sequences of another run's replay, without what the run that is examined has seen as well."""
    found = find_run(unseen)
    other = RunFolder(found.checkpoint.parent.parent)
    if not _has_replay(other):
        raise RunError(f"--unseen: {unseen} has no replay; give another run that still has its own.")
    if other.path.samefile(folder.path):
        raise RunError(f"--unseen: {unseen} is the run itself, which has seen its own replay; give another run.")
    if found.config is None:
        raise RunError(f"--unseen: {unseen} has no config.toml that names its environment; give a whole run folder.")
    _check_same_environment(unseen, load_config(found.config).env, agent.config.env)
    steps = agent.spec.step
    with ReplayReader(folder.replay, steps) as own, ReplayReader(other.replay, steps) as reader:
        shared = reader.leave_out_shared(own)
        if shared and reader.longest < amount.length:
            raise RunError(
                f"--unseen: all but {reader.num_steps} steps in the replay of {unseen} are in that of the run itself; "
                "give a run with another --seed, or one that has gone on for longer."
            )
        return _draw_from(reader, amount, seed)._replace(shared=shared)


def _check_same_environment(unseen: Path, theirs: EnvConfig, ours: EnvConfig) -> None:
    """Raise RunError unless both meet the same scenes under the same rules."""
    if theirs.name != ours.name:
        raise RunError(f"--unseen: {unseen} is a run of {theirs.name}; give another run of {ours.name}.")
    for field in fields(EnvConfig):
        there, here = getattr(theirs, field.name), getattr(ours, field.name)
        if there != here and field.name not in ("num_envs", "parallel"):
            raise RunError(
                f"--unseen: {unseen} has env.{field.name} {there}, and the run has {here}; give a run with the same "
                "settings of the environment."
            )


def _draw_from(reader: ReplayReader, amount: Amount, seed: int) -> _Drawn:
    rng = np.random.default_rng(seed)
    batches = [reader.windows(rng, amount.length, amount.batch) for _ in range(amount.batches)]
    return _Drawn(batches, reader.endings(rng, amount.length, ENDINGS), reader.num_steps, 0)


def _measure(agent: Dreamer, drawn: _Drawn, amount: Amount, seed: int) -> Report:
    generator = torch.Generator(agent.device).manual_seed(seed)
    report = measure(agent, drawn.batches, drawn.endings, amount.context, generator)
    return replace(report, replay_steps=drawn.held, shared_steps=drawn.shared)

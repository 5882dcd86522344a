"""Examine a run on disk: its newest checkpoint, sequences of its replay or another one's, its metrics."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from reverie.agents import load
from reverie.analysis.diagnose.learning import measure_learning
from reverie.analysis.diagnose.measure import measure
from reverie.analysis.diagnose.report import Report
from reverie.config import EnvConfig
from reverie.dreamer import Dreamer
from reverie.errors import RunError
from reverie.replay import ReplayReader
from reverie.runs.metrics import read_metrics
from reverie.runs.run_folder import RunFolder, find_checkpoint
from reverie.specs import Step

ENDINGS = 64  # ends of episodes that are drawn on purpose: they are rare in the uniform sample


@dataclass(frozen=True)
class Amount:
    """Size of the sample: `batches` of B sequences, each of `context` steps that are seen and H that are imagined."""

    batches: int = 8
    context: int = 5
    horizon: int = 45
    batch: int = 16

    @property
    def length(self) -> int:
        """T."""
        return self.context + self.horizon


def examine(
    run: Path,
    amount: Amount | None = None,
    seed: int | None = None,
    device: str = "auto",
    holdout: Path | None = None,
) -> Report:
    """Measure everything about a run. Nothing in its folder is written, and it may still be training.

    Args:
        run: a run folder (its newest checkpoint), or one of its checkpoints.
        amount: of data; None takes the defaults.
        seed: of the draws; None takes the run's.
        device: where the agent runs.
        holdout: another run of the same environment, whose replay is examined, too.

    Raises:
        RunError: if there is no run, or it has no replay, or `holdout` is not another run of its environment
            or has seen nothing else.
        CheckpointError: if it has no checkpoint.
        ReplayError: if a replay is too short, or damaged.
    """
    amount = amount or Amount()
    checkpoint = find_checkpoint(run)
    folder = RunFolder(checkpoint.parent.parent)
    if not folder.replay.is_file():
        raise RunError(f"{run} has no replay to examine; give the folder of the run that trained this agent.")
    agent = load(checkpoint, device)
    seed = agent.config.training.seed if seed is None else seed
    with ReplayReader(folder.replay, agent.spec.step) as own:
        drawn = _draw(own, amount, seed)
        other = None if holdout is None else _draw_holdout(agent, folder, own, holdout, amount, seed)
    rows = read_metrics(folder.path) if folder.metrics.is_file() else []
    report = replace(_measure(agent, drawn, amount, seed), run=str(run), rows=rows)
    held_out = None if other is None else replace(_measure(agent, other, amount, seed), run=str(holdout))
    return replace(report, learning=measure_learning(rows, agent.config), holdout=held_out)


class _Drawn(NamedTuple):
    batches: list[Step]  # [T, B, …] each
    endings: Step | None
    num_steps: int  # steps that they were drawn from
    shared: int = 0  # further steps, left out since the run that is examined has them, too


def _draw(reader: ReplayReader, amount: Amount, seed: int) -> _Drawn:
    rng = np.random.default_rng(seed)
    batches = [reader.windows(rng, amount.length, amount.batch) for _ in range(amount.batches)]
    return _Drawn(batches, reader.endings(rng, amount.length, ENDINGS), reader.num_steps)


def _measure(agent: Dreamer, drawn: _Drawn, amount: Amount, seed: int) -> Report:
    generator = torch.Generator(agent.device).manual_seed(seed)
    report = measure(agent, drawn.batches, drawn.endings, amount.context, generator)
    return replace(report, replay_steps=drawn.num_steps, shared_steps=drawn.shared)


def _draw_holdout(
    agent: Dreamer, folder: RunFolder, own: ReplayReader, holdout: Path, amount: Amount, seed: int
) -> _Drawn:
    """Draw sequences of another run's replay, without what the run that is examined has seen as well."""
    found = find_checkpoint(holdout)
    other = RunFolder(found.parent.parent)
    if not other.replay.is_file():
        raise RunError(f"--holdout: {holdout} has no replay; give another run that still has its own.")
    if other.path.samefile(folder.path):
        raise RunError(f"--holdout: {holdout} is the run itself, which has seen its own replay; give another run.")
    if not other.config_path.is_file():
        raise RunError(f"--holdout: {holdout} has no config.toml that names its environment; give a whole run folder.")
    _check_same_environment(holdout, other.saved_config().env, agent.config.env)
    with ReplayReader(other.replay, agent.spec.step) as reader:
        shared = reader.leave_out_shared(own)
        if shared and reader.longest < amount.length:
            raise RunError(
                f"--holdout: all but {reader.num_steps} steps in the replay of {holdout} are in that of the run "
                "itself; give a run with another --seed, or a longer one."
            )
        return _draw(reader, amount, seed)._replace(shared=shared)


def _check_same_environment(holdout: Path, theirs: EnvConfig, ours: EnvConfig) -> None:
    if theirs.name != ours.name:
        raise RunError(f"--holdout: {holdout} is a run of {theirs.name}; give another run of {ours.name}.")
    for field in fields(EnvConfig):
        there, here = getattr(theirs, field.name), getattr(ours, field.name)
        if there != here and field.name not in ("num_envs", "parallel"):
            raise RunError(
                f"--holdout: {holdout} has env.{field.name} {there}, and the run has {here}; give a run with the same "
                "settings of the environment."
            )

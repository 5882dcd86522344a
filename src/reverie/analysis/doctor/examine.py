"""A run as it lies on disk: its newest checkpoint, sequences from its replay or another one's, its metrics."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from reverie.agent import Dreamer
from reverie.analysis.doctor.learning import measure_learning
from reverie.analysis.doctor.measure import measure
from reverie.analysis.doctor.report import Report
from reverie.config import Config
from reverie.errors import RunError
from reverie.replay import ReplayReader
from reverie.training.loading import load
from reverie.training.metrics import read_metrics
from reverie.training.run_folder import RunFolder, find_run

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
        RunError: if there is no run, or it has no replay, or `unseen` is not another run of its environment.
        CheckpointError: if it has no checkpoint.
        ReplayError: if a replay is too short, or damaged.
    """
    amount = amount or Amount()
    checkpoint = find_run(run).checkpoint
    folder = _with_replay(run)
    other = None if unseen is None else _with_replay(unseen)
    agent = load(checkpoint, device)
    if other is not None:
        _check_other(folder, other, agent.config)
    seed = agent.config.training.seed if seed is None else seed
    report = replace(_measure_replay(agent, folder, amount, seed), run=str(run))
    rows = read_metrics(folder.path) if folder.metrics.is_file() else []
    report = replace(report, rows=rows, learning=measure_learning(rows, agent.config))
    if other is None:
        return report
    return replace(report, unseen=replace(_measure_replay(agent, other, amount, seed), run=str(unseen)))


def _with_replay(run: Path) -> RunFolder:
    """The folder of a run that still has its replay."""
    folder = RunFolder(find_run(run).checkpoint.parent.parent)
    if not (folder.replay / "index.json").is_file():
        raise RunError(f"{run} has no replay beside it to look at; give the folder of the run that trained this agent.")
    return folder


def _check_other(folder: RunFolder, other: RunFolder, config: Config) -> None:
    if other.path.samefile(folder.path):
        raise RunError(f"{other.path} is the run itself, which has seen its own replay; give another run.")
    name = other.saved_config().env.name
    if name != config.env.name:
        raise RunError(f"{other.path} is a run of {name}; give another run of {config.env.name}.")


def _measure_replay(agent: Dreamer, folder: RunFolder, amount: Amount, seed: int) -> Report:
    """Measure an agent on sequences of the replay of a run."""
    rng = np.random.default_rng(seed)
    with ReplayReader(folder.replay, agent.spec.step) as reader:
        batches = [reader.windows(rng, amount.length, amount.batch) for _ in range(amount.batches)]
        endings = reader.endings(rng, amount.length, ENDINGS)
        held = reader.num_steps
    generator = torch.Generator(agent.device).manual_seed(seed)
    return replace(measure(agent, batches, endings, amount.context, generator), replay_steps=held)

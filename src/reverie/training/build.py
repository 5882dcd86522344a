"""The parts of a training run, created and connected."""

import functools
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from reverie import kernels
from reverie.acting import AgentPolicy
from reverie.agents import build_agent
from reverie.config import Config
from reverie.devices import resolve_device
from reverie.dreamer import Dreamer
from reverie.envs import EnvFactory, make_env
from reverie.replay import ReplayBuffer
from reverie.runs.checkpoints import Checkpoints, Snapshot
from reverie.runs.launches import Origin, note_start
from reverie.runs.metrics import MetricsFile
from reverie.runs.run_folder import RunFolder
from reverie.shell import command_line
from reverie.training import resumption
from reverie.training.async_collector import AsyncCollector, CopiedPolicy
from reverie.training.callbacks import Callback, CallbackList, Run
from reverie.training.checkpointing import Checkpointing
from reverie.training.collectors import Collector, RandomPolicy, SyncCollector
from reverie.training.counters import Counters
from reverie.training.disk import announcement
from reverie.training.display import Display, ShowProgress
from reverie.training.evaluation import Evaluation
from reverie.training.every import Every
from reverie.training.failure_budget import FailureBudget
from reverie.training.learner import Learner
from reverie.training.loggers import Loggers
from reverie.training.memory import check_memory
from reverie.training.metrics import Metrics
from reverie.training.metrics_log import MetricsLog
from reverie.training.nonfinite import NonFiniteGuard
from reverie.training.prefill import Prefill
from reverie.training.stop_signal import StopSignal
from reverie.training.train_state import TrainState
from reverie.training.trainer import Trainer
from reverie.training.videos import Videos
from reverie.training.watchdog import Watchdog


def build_trainer(
    config: Config,
    folder: RunFolder,
    factory: EnvFactory | None = None,
    origin: Origin = Origin(),
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[str] = ("tensorboard",),
    is_quiet: bool = False,
) -> Trainer:
    """Create a trainer; that of a resumed run continues from the newest checkpoint.

    Args:
        config: all settings.
        folder: an open run folder.
        factory: creates the environment in place of `config.env.name`.
        origin: names of preset and variant, and the command.
        callbacks: those of the user.
        loggers: names of loggers, see `reverie.training.loggers`.
        is_quiet: print nothing.
    """
    kernels.tune_malloc()
    settings = config.training
    checkpoints = Checkpoints(folder.checkpoints, settings.keep_checkpoints)
    resumed = checkpoints.load() if folder.resumed else None
    # Environments that cannot be restored get another seed, so that they do not repeat their episodes.
    seeds = np.random.SeedSequence((settings.seed, resumed[0] if resumed else 0)).spawn(3)
    with ExitStack() as resources:
        collector = make_collector(config, int(seeds[0].generate_state(1)[0]), factory)
        resources.callback(collector.close)
        check_memory(config, collector.spec, resolve_device(settings.device))
        agent = build_agent(config, collector.spec)
        if resumed:
            resumption.check_files(folder, resumed[1])
        else:
            folder.begin(config)
        replay = ReplayBuffer(folder.replay, collector.spec.step, config.replay, collector.num_envs)
        resources.callback(replay.close)
        state = TrainState(
            agent,
            replay,
            collector,
            CopiedPolicy(agent) if isinstance(collector, AsyncCollector) else AgentPolicy(agent),
            Metrics(),
            schedules(config, agent),
            sample_rng=np.random.default_rng(seeds[1]),
            prefill_rng=np.random.default_rng(seeds[2]),
            counters=Counters(),
            callbacks=tuple(callbacks),
        )
        if resumed:
            resumption.restore(state, resumed[1], folder, config)
            folder.begin(config)
        trainer = _connect(config, folder, factory, origin, loggers, is_quiet, state, checkpoints, resumed, resources)
        trainer.resources = resources.pop_all()
        return trainer

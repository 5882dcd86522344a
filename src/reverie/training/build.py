"""The parts of a training run, created and connected."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch

from reverie import kernels
from reverie.agents import build_agent, num_parameters, unread_observations
from reverie.collectors.random_policy import RandomPolicy
from reverie.config import Config, to_dict
from reverie.devices import resolve_device
from reverie.envs import EnvFactory, InstanceFactory, env_spec
from reverie.envs.space_json import spec_from_json
from reverie.errors import ConfigError
from reverie.replay import ReplayBuffer
from reverie.runs.checkpoint import Snapshot
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.layout import STAGED, VALIDATION_FILES
from reverie.runs.metrics import MetricsFile
from reverie.runs.provenance import Launch, record_launch, recorded_names
from reverie.runs.run_folder import RunFolder
from reverie.scaling.learners import shared_updates
from reverie.shell import command_line
from reverie.specs import EnvSpec
from reverie.training import resumption
from reverie.training.callbacks import Callback, CallbackList, Run
from reverie.training.checkpointing import Checkpointing
from reverie.training.collection import Collection
from reverie.training.disk import DiskUsage
from reverie.training.display import Display
from reverie.training.evaluation import Evaluation
from reverie.training.every import Every
from reverie.training.failure_budget import FailureBudget
from reverie.training.latents_check import LatentsCheck
from reverie.training.learner import Learner
from reverie.training.loggers import Logger, Loggers, RunInfo
from reverie.training.make_collector import make_collector
from reverie.training.memory import check_memory
from reverie.training.metrics_log import MetricsLog
from reverie.training.nonfinite import NonFiniteGuard
from reverie.training.offline import Data, Validation, move_into_place, open_data, open_held_out, stage
from reverie.training.stop_signal import StopSignal
from reverie.training.train_state import TrainState
from reverie.training.trainer import Trainer
from reverie.training.videos import Videos
from reverie.training.watchdog import PrefillCheck, Watchdog
from reverie.transfer import Initial, transfer

_STOPPING = "Stopping after this step, with a checkpoint; press Ctrl-C again to stop at once."


def build_trainer(
    config: Config,
    folder: RunFolder,
    factory: EnvFactory | None,
    launch: Launch,
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
    is_quiet: bool,
    num_threads: int,
    initial: Initial | None,
    data: Data | None,
) -> Trainer:
    """Create a trainer; that of a resumed run continues from the newest checkpoint.

    The arguments are those of `reverie.training.train_config`, with the number of CPU threads, which stays fixed since
    sums differ in their last bits with another one, and the weights and episodes that a new run starts with.
    """
    kernels.tune_malloc()
    settings = config.training
    if settings.eval_every and isinstance(factory, InstanceFactory):
        factory.check_copy()
    checkpoints = Checkpoints(folder.checkpoints, settings.keep_checkpoints)
    step, snapshot = checkpoints.load() if folder.resumed else (0, None)
    # Environments that cannot be restored get another seed, so that they do not repeat their episodes.
    seeds = np.random.SeedSequence((settings.seed, step)).spawn(3)
    with ExitStack() as resources:
        resources.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(num_threads)
        recording = None if data is None or snapshot else open_data(data, _env_spec(config, factory))
        recorded = recording.spec if recording else _saved_spec(snapshot)
        if settings.collect == "none" and recorded is None:
            raise ConfigError(
                "training.collect is none, but there are no recorded episodes. Nothing was trained. Name them: "
                "--offline DATA."
            )
        collector = make_collector(config, int(seeds[0].generate_state(1)[0]), factory, recorded)
        resources.callback(collector.close)
        config.check_prefill(collector.num_envs)
        check_memory(config, collector.spec, resolve_device(settings.device))
        agent = build_agent(config, collector.spec)
        resources.enter_context(shared_updates(agent))
        table = transfer(agent, *initial) if initial is not None else []
        imported = None
        if snapshot:
            resumption.check_files(folder, snapshot)
        else:
            if recording and data:
                imported = stage(recording, data.relabel, config, folder.path / STAGED)
            folder.begin(config)
            if imported:
                move_into_place(imported, folder.path)
        replay = ReplayBuffer(folder.replay, collector.spec.step, config.replay, max(1, collector.num_envs))
        resources.callback(replay.close)
        held_out = open_held_out(folder.path / VALIDATION_FILES[0], config)
        if held_out is not None:
            resources.callback(held_out.close)
        has_images = bool(agent.world_model.decoder.keys.images)
        every = {
            "train": Every(settings.train_every),
            "evaluate": Every(settings.eval_every),
            "log": Every(settings.log_every, last=0),
            "video": Every(settings.video_every if has_images else 0, last=0),
            "checkpoint": Every(settings.checkpoint_every, last=0),
        }
        events = CallbackList(callbacks)
        state = TrainState(
            agent,
            replay,
            collector,
            collector.make_policy(agent),
            every,
            sample_rng=np.random.default_rng(seeds[1]),
            prefill_policy=RandomPolicy(
                collector.spec.action, np.random.default_rng(seeds[2]), max_hold=settings.prefill_max_hold
            ),
            callbacks=events,
        )
        counters, metrics = state.counters, state.metrics
        counters.imported_steps = imported.num_steps if imported else 0
        if held_out is not None:
            state.schedules["validate"] = Every(settings.eval_every)
        if snapshot:
            resumption.restore(state, step, snapshot, folder, config)
            folder.begin(config)
        name, (preset, variant) = config.env.name, recorded_names(folder.path, launch)
        title = [name, preset, variant, f"{num_parameters(agent):,} parameters", str(agent.device)]
        display = Display(
            " · ".join(filter(None, title)),
            settings.steps,
            collector.frames_per_step,
            counters.steps,
            is_quiet,
            folder.messages,
        )
        log = resources.enter_context(display).log
        resources.enter_context(Watchdog(metrics, log))
        file = MetricsFile(folder.metrics, counters.rows, step, counters.updates)
        resources.callback(file.close)
        outputs = Loggers(loggers, folder.path, log)
        resources.callback(outputs.close, "failed")  # unless the trainer has closed it with another status
        stop = resources.enter_context(StopSignal(lambda: log(_STOPPING)))
        if snapshot:
            state.messages += resumption.compare_files(folder, file, counters)
        state.messages += [*collector.spec.notes, *filter(None, [unread_observations(agent)])]
        state.messages += [f"Starting with parts of {initial.source!r}:", *map(str, table)] if initial else []
        state.messages += imported.messages() if imported else []
        if imported and imported.num_held_out and held_out is None:
            state.messages.append("The held-out episodes are shorter than replay.batch_length. Nothing is validated.")
        state.pop_messages(log)
        record_launch(folder.path, launch, counters.steps, config)
        resumed_at = counters.steps if snapshot else None
        info = (folder.path.resolve().name, folder.path, name, preset, variant, launch.command, resumed_at)
        outputs.open(RunInfo(*info, is_quiet), to_dict(config))
        guard = NonFiniteGuard(agent, counters, folder.failures, log)
        budget = FailureBudget(config.env.max_restarts_per_hour)
        collection = Collection(state, budget, log)
        checkpointing = Checkpointing(checkpoints, state, guard, collection.flush, file.sync)
        show_evaluation, evaluated = partial(display.show, phase="evaluating"), partial(events.call, "on_evaluation")
        has_env = bool(name) or factory is not None
        evaluation = Evaluation(every["evaluate"], factory, metrics, budget, stop, show_evaluation, evaluated)
        validate = state.schedules.get("validate")
        events.before = (
            PrefillCheck(state),
            LatentsCheck(replay.sample),
            *([evaluation] if has_env else []),
            *([Validation(validate, held_out, metrics)] if validate and held_out else []),
            Videos(every["video"], replay, folder.videos, metrics, outputs, stop),
            MetricsLog(every["log"], metrics, file, outputs, guard, display.show, stop),
            display,
        )
        events.after = (checkpointing, DiskUsage(checkpoints))
        resume_command = (
            f"`{command_line('train', *[name][: bool(name)], '--logdir', folder.path, '--resume', env=name)}`"
        )
        return Trainer(
            run=Run(folder.path, config, collector.spec, agent, counters, log),
            state=state,
            collection=collection,
            learner=Learner(agent, replay, state.sample_rng, counters, metrics, guard),
            checkpointing=checkpointing,
            loggers=outputs,
            stop_signal=stop,
            resume_command="resume=True" if factory else resume_command,
            resources=resources.pop_all(),
        )


def _env_spec(config: Config, factory: EnvFactory | None) -> EnvSpec | None:
    """Return the spec of the environment, None where none is named."""
    return env_spec(config.env, factory) if config.env.name or factory is not None else None


def _saved_spec(snapshot: Snapshot | None) -> EnvSpec | None:
    return None if snapshot is None else spec_from_json(snapshot.state["spec"])

"""Start a training run, or resume one."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reverie.agents import load, load_agent
from reverie.config import Config, EnvConfig, configure, default_preset, with_variant
from reverie.config import preset as preset_config
from reverie.dreamer import Dreamer
from reverie.envs import EnvFactory, as_factory, env_spec
from reverie.errors import ConfigError
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.provenance import UNNAMED, Launch
from reverie.runs.run_folder import RunFolder, saved_settings
from reverie.scaling.learners import dismiss_followers, follow, is_follower, with_launched_learners
from reverie.specs import EnvSpec
from reverie.training import resumption
from reverie.training.build import build_trainer
from reverie.training.callbacks import Callback
from reverie.training.loggers import Logger, make_logger
from reverie.training.offline import Data, Relabel, open_data
from reverie.training.threads import resolve_threads
from reverie.transfer import Initial, Keep


def train_config(
    config: Config,
    logdir: Path | str,
    resume: bool = False,
    env_factory: EnvFactory | None = None,
    origin: Launch = UNNAMED,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[str | Logger] = ("tensorboard",),
    overwrite: bool = False,
    quiet: bool = False,
    init: Path | str | None = None,
    keep: Keep = "all",
    fresh: Sequence[str] = (),
    data: Data | None = None,
) -> Dreamer:
    """Train with a complete configuration; the other arguments are those of `train`.

    A resumed run may be given other settings than before, for example more steps, but for its environment, its seed and
    the sizes of its networks; they replace those in the folder's `config.toml`. One that has its steps is left as it
    is. `env_factory` creates the environment in place of `config.env.name`; `origin` is noted in the folder.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM, after a checkpoint.
        ReverieError: for what a user can correct.
    """
    if is_follower():
        return follow()
    config = with_launched_learners(config)
    outputs = [make_logger(logger) if isinstance(logger, str) else logger for logger in loggers]
    with RunFolder.create(logdir, config, resume, overwrite) as folder:
        try:
            newest = Checkpoints(folder.checkpoints).latest() if folder.resumed else None
            if newest and config.training.collect == "none" != folder.saved_config().training.collect:
                raise ConfigError(
                    f"The run in {logdir} collects in its environment. Nothing was changed. Begin another run to learn "
                    "from recorded episodes alone."
                )
            done, threads = resumption.read_progress(newest, config.training.learners) if newest else (0, None)
            if newest and done >= config.training.steps:
                agent = load_agent(newest, config.training.device)
                dismiss_followers()
                message = resumption.nothing_to_do(done, config, folder.saved_config())
                if quiet:
                    logging.getLogger("reverie").info(message)
                else:
                    print(message)
                return agent
            threads = resolve_threads(config.training.threads, threads, config.training.learners)
            source = load(init, config.training.device) if init is not None and not newest else None
            initial = None if source is None else Initial(source, keep, fresh)
            trainer = build_trainer(
                config, folder, env_factory, origin, callbacks, outputs, quiet, threads, initial, data
            )
            return trainer.train()
        except BaseException:
            folder.discard()
            raise


def train(
    env: Any = None,
    preset: str | None = None,
    *,
    logdir: Path | str | None = None,
    variant: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[str | Logger] = ("tensorboard",),
    overwrite: bool = False,
    quiet: bool = False,
    init: Path | str | None = None,
    keep: Keep = "all",
    fresh: Sequence[str] = (),
    offline: Path | str | None = None,
    prefill_from: Path | str | None = None,
    relabel: Relabel | None = None,
    **settings: Any,
) -> Dreamer:
    """Train an agent.

    `train("ALE/Pong-v5", preset="atari-small", logdir="runs/pong", steps=20_000)`

    Args:
        env: a Gymnasium id, a function or class that creates a `gymnasium.Env` (also by its name, `module:Class`), or
            one instance (which is copied for evaluations). None, with `offline`: none, and no evaluations.
        preset: name of the settings to start from; None chooses by the environment, see `default_preset`.
        logdir: folder of the run; None makes a new one, `runs/ENV-PRESET-NUMBER`.
        variant: a change of the agent by its name, or several joined by `+`, see `reverie.config.variants`; on top of
            the preset, and below `settings`. One that changes nothing is refused, unless `resume` continues a run that
            may have it already.
        resume: continue the run in `logdir`, or start it if there is none. Without a preset, its settings are those in
            its `config.toml`; a preset replaces all of them but the seed. Settings given now are saved there, too, and
            so count until others are given.
        callbacks: watch the run, and may end it; see `reverie.Callback`.
        loggers: names (tensorboard, wandb, mlflow, trackio) or objects that get the metrics, see
            `reverie.training.loggers`. `metrics.jsonl` is written in any case.
        overwrite: remove the run in `logdir` first, if there is one.
        quiet: print nothing, as in notebooks; messages go to Python's logger `reverie`.
        init: a run or an agent with whose weights a new run starts, where their shapes agree; in the same environment
            or another one. A table says which parameters were kept.
        keep: parts that are taken from `init`: `model`, `model+actor` or `all`.
        fresh: parts among them that are not, see `reverie.transfer.PARTS`, as in `("reward", "discount")`.
        offline: recorded episodes, as for `reverie.data.open_recording`, from which alone the agent learns; `env` is
            for evaluations. A tenth of them (`training.validation_share`) is held out for losses `validation/...`.
        prefill_from: recorded episodes with which the replay begins, before the agent collects its own.
        relabel: returns other rewards [T+1] of a recorded episode.
        settings: whatever differs from the preset: fields of `TrainingConfig` by name, others by their path, as in
            `**{"world_model.kl.scale": 0.1}`.

    Returns:
        The trained agent; `reverie.load(logdir)` gives it again.

    Raises:
        ReverieError: for what a user can correct; one sentence says what and how.
    """
    if offline is not None and prefill_from is not None:
        raise ConfigError("offline and prefill_from are both given. Nothing was started. Leave out one of them.")
    if relabel is not None and offline is None and prefill_from is None:
        raise ConfigError("relabel is given without recorded episodes. Nothing was started. Add offline=DATA.")
    if init is None and (keep, tuple(fresh)) != ("all", ()):
        raise ConfigError("keep and fresh choose among the parts of init, which is not given. Add init=RUN.")
    recorded = offline if offline is not None else prefill_from
    data = None if recorded is None else Data(Path(recorded), relabel)
    name, factory = ("", None) if env is None else as_factory(env)
    if offline is not None:
        settings = {"collect": "none", **settings}

    def spec_of(env: EnvConfig) -> EnvSpec:
        if data is not None and not name:
            return open_data(data, None).spec
        return env_spec(env, factory)

    saved = saved_settings(logdir) if resume and logdir is not None else None
    if preset is None and saved is not None:
        base = saved
    else:
        if preset is None:
            found = default_preset(name, spec_of, settings)
            preset, base = found.name, found.config
        else:
            base = preset_config(preset)
        if saved is not None:
            base = base.override(seed=saved.training.seed)
    base = base.for_env(name)
    if saved is not None and variant is not None:  # the run may have it already
        config = with_variant(base, variant).override(**settings)
    else:
        config = configure(base, variant, settings, spec_of)
    if logdir is None:
        logdir = new_run_dir(name or str(recorded), preset, variant)
    launch = Launch(preset, variant)
    return train_config(
        config, logdir, resume, factory, launch, callbacks, loggers, overwrite, quiet, init, keep, fresh, data
    )


def new_run_dir(env: str, preset: str | None = None, variant: str | None = None, parent: Path = Path("runs")) -> Path:
    """Return the first of `parent/ENV-PRESET[-VARIANT]-1`, `-2`, … that does not exist."""
    slug = re.sub(r"[^\w.-]+", "-", env.split("/")[-1]).strip("-") or "env"
    stem, number = "-".join(part for part in (slug, preset or "run", variant) if part), 1
    while (folder := parent / f"{stem}-{number}").exists():
        number += 1
    return folder

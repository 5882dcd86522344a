"""Start a training run, or resume one."""

from pathlib import Path
from typing import Any

from rich.console import Console

from reverie.agents import load_agent
from reverie.config import Config, EnvConfig, configure, default_preset, with_variant
from reverie.config import preset as preset_config
from reverie.dreamer import Dreamer
from reverie.envs import EnvFactory, as_factory, env_spec
from reverie.runs.provenance import UNNAMED, Launch
from reverie.runs.run_folder import RunFolder, find_run, saved_settings
from reverie.training.resumption import finished_steps, nothing_to_do
from reverie.training.threads import cpu_threads
from reverie.training.trainer import Trainer


def train_config(
    config: Config,
    logdir: Path | str,
    resume: bool = False,
    env_factory: EnvFactory | None = None,
    origin: Launch = UNNAMED,
) -> Dreamer:
    """Train with a complete configuration.

    Args:
        config: all settings. A resumed run may be given others than before, for example more steps, but for its
            environment, its seed and the sizes of its networks; they replace those in the folder's `config.toml`.
        logdir: the run's folder.
        resume: continue the run in `logdir`, or start it if there is none. One that has its steps is left as it is.
        env_factory: creates the environment in place of `config.env.name`.
        origin: the names of preset and variant, and the command; noted in the folder.

    Returns:
        The trained agent.

    Raises:
        Stopped: on Ctrl-C or SIGTERM, after a checkpoint.
        ReverieError: for what a user can correct.
    """
    with RunFolder.create(logdir, config, resume) as run, cpu_threads(config.training.threads):
        try:
            if run.resumed and (done := finished_steps(run)) >= config.training.steps:
                agent = load_agent(find_run(run.path).checkpoint, config.training.device)
                Console(highlight=False).print(nothing_to_do(done, config, run.saved_config()), soft_wrap=True)
                return agent
            return Trainer(config, run, env_factory, origin).run()
        except BaseException:
            run.discard()
            raise


def train(
    env: Any,
    preset: str | None = None,
    *,
    logdir: Path | str,
    variant: str | None = None,
    resume: bool = False,
    **settings: Any,
) -> Dreamer:
    """Train an agent.

    `train("ALE/Pong-v5", preset="atari-small", logdir="runs/pong", steps=20_000)`

    Args:
        env: a Gymnasium id, a function or class that creates a `gymnasium.Env`, or one instance (which is copied for
            evaluations).
        preset: name of the settings to start from; None chooses by the environment, see `default_preset`.
        logdir: folder of the run.
        variant: a change of the agent by its name, or several joined by `+`, see `reverie.config.variants`; on top of
            the preset, and below `settings`. One that changes nothing is refused, unless `resume` continues a run that
            may have it already.
        resume: continue the run in `logdir`, or start it if there is none. Without a preset, its settings are those in
            its `config.toml`; a preset replaces all of them but the seed. Settings given now are saved there, too, and
            so count until others are given.
        settings: whatever differs from the preset: fields of `TrainingConfig` by name, others by their path, as in
            `**{"world_model.kl.scale": 0.1}`.

    Returns:
        The trained agent; `reverie.load(logdir)` gives it again.

    Raises:
        ReverieError: for what a user can correct; one sentence says what and how.
    """
    name, factory = as_factory(env)
    saved = saved_settings(logdir) if resume else None
    if preset is None and saved is not None:
        base = saved
    else:
        preset = preset or default_preset(name, env_spec(EnvConfig(name=name), factory))
        base = preset_config(preset)
        if saved is not None:
            base = base.override(seed=saved.training.seed)
    base = base.for_env(name)
    if saved is not None and variant is not None:  # the run may have it already
        config = with_variant(base, variant).override(**settings)
    else:
        config = configure(base, variant, settings, lambda env: env_spec(env, factory))
    return train_config(config, logdir, resume, factory, Launch(preset, variant))

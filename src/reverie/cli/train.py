"""`reverie train`: train an agent in an environment."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.markup import escape

from reverie.cli.console import UsageError, console, show
from reverie.cli.dream import Dream
from reverie.cli.parser import Base, SettingsCommand
from reverie.config import (
    Config,
    EnvConfig,
    configure,
    default_preset,
    diff,
    load_config,
    preset,
    with_variant,
)
from reverie.errors import EnvError
from reverie.shell import command_line
from reverie.specs import EnvSpec

if TYPE_CHECKING:
    from reverie.dreamer import Dreamer
    from reverie.envs import EnvFactory


@dataclass(frozen=True)
class Train(SettingsCommand):
    """Train an agent in an environment.

    Every setting of the configuration is an option: its path with hyphens, for example --world-model.kl.scale 0.1.
    Common ones come first. The resolved configuration is saved with the run.
    """

    env: tyro.conf.Positional[str | None] = None
    """Gymnasium id, for example ALE/Pong-v5 (see reverie list envs), or a class of your own as module:Class."""
    preset: str | None = None
    """Settings to start from, by default those that suit the environment; see reverie list presets."""
    config: Path | None = None
    """TOML file instead of a preset: the config.toml of a run, or settings on top of its base = "PRESET"."""
    variant: str | None = None
    """Change of the agent on top of the preset, or several joined by +; see reverie list variants."""
    logdir: Path | None = None
    """Folder of the run; by default a new one, runs/ENV-PRESET-NUMBER."""
    resume: bool = False
    """Continue the run in --logdir with its saved settings and those given now, or start it if there is none."""
    overwrite: bool = False
    """Delete the run in --logdir and start again."""
    init: Path | None = None
    """Run whose weights the agent starts with. Its networks must have the same sizes."""
    log: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Logger besides the JSON lines: tensorboard (default), wandb, mlflow or trackio. Repeat it for several."""
    quiet: bool = False
    """Print nothing but warnings and errors."""
    in_sweep: bool = False
    """Accept a variant that changes nothing here. A sweep has compared it with the agent of its plan."""

    def __call__(self) -> None:
        self._check()
        environment, name, base, saved = self._start()
        factory = env_factory(self._environment())
        settings = {**self.settings, "env.name": environment}
        if self.variant is not None and (saved is not None or self.in_sweep):  # the run may have it already
            config = with_variant(base, self.variant).override(**settings)
        else:
            config = configure(base, self.variant, settings, lambda env: _spec(env, factory))
        stem = "-".join([_slug(environment), name or "run", *([self.variant] if self.variant else [])])
        logdir = self.logdir or new_folder(Path("runs"), stem)

        from reverie.runs.provenance import Launch, recorded_names
        from reverie.training import train_config

        if not self.quiet:
            # Of a resumed run, training says what differs from the saved settings.
            named = name if saved is None else name or recorded_names(logdir)[0]
            announce(environment, named, logdir, config, base if saved is None else config)
        origin = Launch(name, self.variant, self.typed)
        agent = train_config(
            config,
            logdir,
            resume=self.resume,
            env_factory=factory,
            origin=origin,
            loggers=self.log or ("tensorboard",),
            overwrite=self.overwrite,
            quiet=self.quiet,
            init=self.init,
        )
        if not self.quiet:
            commands = next_commands(agent, logdir)
            console().print("\nNext:", *commands, sep="\n  ", markup=False, soft_wrap=True)

    def base(self) -> Base:
        """Return the configuration whose values the help shows."""
        saved = _saved(self.logdir) if self.resume and self.logdir else None
        if self.config is not None:
            base = Base(load_config(self.config), f"those of {self.config}.")
        elif saved is not None and self.preset is None:
            base = Base(saved, f"the settings saved in {self.logdir}.")
        else:
            base = base_of(self.preset, self.env or self.settings.get("env.name"), "atari")
        if self.variant is None:
            return base
        return Base(with_variant(base.config, self.variant), f"variant {self.variant}, {base.origin}")

    def _check(self) -> None:
        if self.preset is not None and self.config is not None:
            raise UsageError('--preset and --config are both given. Name the preset in the file, base = "PRESET".')
        for option, is_given in (("--resume", self.resume), ("--overwrite", self.overwrite)):
            if is_given and self.logdir is None:
                raise UsageError(f"{option} needs the folder of the run: --logdir DIR.")

    def _environment(self) -> str | None:
        given = [name for name in (self.env, self.settings.get("env.name")) if name]
        if len(given) > 1:
            raise UsageError(f"The environment is given twice, as {' and '.join(given)}. Give one.")
        return given[0] if given else None

    def _start(self) -> tuple[str, str | None, Config, Config | None]:
        """Return the environment, the preset's name, what settings are added to, and the settings of a resumed run."""
        saved = _saved(self.logdir) if self.resume and self.logdir else None
        name, base = self.preset, load_config(self.config) if self.config else None
        given_config = base or saved
        environment = self._environment() or (given_config.env.name if given_config else "")
        if not self._environment() and is_class(environment):
            raise UsageError(
                f"{environment} is a class, which is imported only if you name it: reverie train {environment}."
            )
        if not environment:
            missing = f"{self.config} names no environment." if base else "The environment is missing."
            raise UsageError(f"{missing} Type reverie train ENV; reverie list envs shows what is installed.")
        if base is None and name is None and saved is not None:
            return environment, None, saved, saved
        if base is None:
            name = (name or choose_preset(environment)).replace("_", "-")
            base = preset(name)
        return environment, name, base if saved is None else base.override(seed=saved.training.seed), saved


def next_commands(agent: "Dreamer", run: Path) -> list[str]:
    """Return commands for a trained run; dream only where there are images, and no longer than its episodes."""
    from reverie.runs.metrics import read_metrics

    env = agent.config.env.name
    named = ["--env", env] if is_class(env) else []
    commands = [command_line("eval", run, *named, env=env), command_line("plot", run)]
    lengths = [row["episode/length"] for row in read_metrics(run) if "episode/length" in row]
    horizon = min(Dream.horizon, int(lengths[-1]) + 1 - Dream.context) if lengths else Dream.horizon
    if agent.world_model.decoder.keys.images and horizon > 0:
        shorter = [] if horizon == Dream.horizon else ["--horizon", horizon]
        commands.insert(1, command_line("dream", run, *named, *shorter, env=env))
    return commands


def is_class(env: str) -> bool:
    """Return whether the name of an environment is `module:Class`, and no Gymnasium id."""
    return ":" in env and env.rpartition(":")[2].isidentifier()


def env_factory(env: str | None) -> "EnvFactory | None":
    """Return the class or function of `module:Class`, as typed; None for a Gymnasium id, `module:Name-v0` included.

    What only the configuration of a run names is not imported: the run may be untrusted.
    """
    if env is None or ":" not in env:
        return None

    from reverie.envs import import_env

    found = import_env(env)
    return None if isinstance(found, str) else found


def _spec(env: EnvConfig, factory: "EnvFactory | None") -> EnvSpec:
    from reverie.envs import env_spec

    return env_spec(env, factory)


def choose_preset(environment: str) -> str:
    """Return the preset for an environment when none is named; see `default_preset`.

    Raises:
        EnvError: if the environment is unknown or unsupported.
    """
    by_name = default_preset(environment)
    if by_name != "vector":
        return by_name
    return default_preset(environment, _spec(EnvConfig(name=environment), env_factory(environment)))


def new_folder(parent: Path, stem: str) -> Path:
    """Return the first of `parent/stem-1`, `-2`, ... that does not exist."""
    number = 1
    while (folder := parent / f"{stem}-{number}").exists():
        number += 1
    return folder


def announce(environment: str, name: str | None, logdir: Path, config: Config, base: Config) -> None:
    """Print the environment, the folder, and every setting that differs from the preset."""
    out = console()
    of_preset = f" with preset [cyan]{escape(name)}[/cyan]" if name else ""
    where = f"[bold]{escape(str(logdir))}[/bold]"
    out.print(f"Training on [bold]{escape(environment)}[/bold]{of_preset}; the run folder is {where}")
    if (kinds := config.world_model.encoder.kinds) != "all":
        both = "--world-model.encoder.kinds all --world-model.decoder.kinds all"
        out.print(f"  The agent sees {kinds} only; with {both} it sees everything.", markup=False)
    for path, before, now in diff(config, base):
        if path != "env.name":
            out.print(f"  {path}: {show(now)} (was {show(before)})", markup=False)


def base_of(name: str | None, environment: str | None, otherwise: str) -> Base:
    """Return the preset of a command line: as named, or by the environment, or else another one."""
    if name is not None:
        return Base(preset(name), f"preset {name.replace('_', '-')}.")
    if environment is None:
        return Base(preset(otherwise), f"preset {otherwise}; with ENV those of the preset that it takes.")
    try:
        name = choose_preset(environment)
        return Base(preset(name), f"preset {name}, which {environment} takes without --preset.")
    except EnvError as error:
        name = default_preset(environment)
        return Base(preset(name), f"preset {name}, since it is not known what {environment} would take. {error}")


def _saved(logdir: Path) -> Config | None:
    from reverie.runs.run_folder import saved_settings

    return saved_settings(logdir)


def _slug(environment: str) -> str:
    return re.sub(r"[^\w.-]+", "-", environment.split("/")[-1]).strip("-") or "env"

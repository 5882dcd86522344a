"""`reverie train`: train an agent in an environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from reverie.cli.console import require, say
from reverie.cli.dream import Dream
from reverie.cli.parser import Base, SettingsCommand, of_preset
from reverie.config import Config, EnvConfig, as_text, configure, default_preset, diff, load_config, with_variant
from reverie.shell import command_line

if TYPE_CHECKING:
    from reverie.dreamer import Dreamer
    from reverie.specs import EnvSpec


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
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Run, checkpoint or saved agent with whose weights the agent starts, where their shapes agree. A table says which
    parameters were kept."""
    keep: Literal["model", "model+actor", "all"] = "all"
    """Parts that are taken from there."""
    fresh: tuple[str, ...] = ()
    """Parts among them that are not: preprocess, encoder, rssm, decoder, reward, discount, actor, critic, explorer."""
    offline: Path | None = None
    """Recorded episodes from which alone the agent learns (docs/data.md has the formats). ENV, if it is named, is for
    evaluations."""
    prefill_from: Path | None = None
    """Recorded episodes with which the replay begins."""
    log: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Logger besides the JSON lines: tensorboard (default), wandb, mlflow, trackio, or none. Repeat it for several."""
    quiet: bool = False
    """Print nothing but warnings and errors."""
    in_sweep: bool = False
    """Accept a variant that changes nothing here. A sweep has compared it with the agent of its plan."""

    def __call__(self) -> None:
        from reverie.scaling.learners import follow, is_follower

        if is_follower():
            follow()
            return
        alone = "--keep and --fresh choose among the parts of an agent, but --from names none. Add --from RUN."
        require(self.from_ or (self.keep, self.fresh) == ("all", ()), alone)
        both = '--preset and --config are both given. Name the preset in the file, base = "PRESET".'
        require(self.preset is None or self.config is None, both)
        for option, is_given in (("--resume", self.resume), ("--overwrite", self.overwrite)):
            require(self.logdir or not is_given, f"{option} needs the folder of the run: --logdir DIR.")
        alone = "--log none is given together with a logger. Nothing was started. Leave out one of them."
        require("none" not in self.log or self.log == ("none",), alone)
        two = "--offline and --prefill-from are both given. Nothing was started. Leave out one of them."
        require(self.offline is None or self.prefill_from is None, two)
        if self.offline is not None:
            self.settings["training.collect"] = "none"
        saved, base, named = self._saved(), self._without_variant(), self._named()
        env = named or base.config.env.name
        missing = f"{self.config} names no environment." if self.config else "The environment is missing."
        is_offline = base.config.override(**self.settings).training.collect == "none"
        require(env or is_offline, f"{missing} Type reverie train ENV; reverie list envs shows what is installed.")

        from reverie.envs import as_factory, choose_env
        from reverie.runs.provenance import Launch, recorded_names
        from reverie.training import train_config
        from reverie.training.offline import Data
        from reverie.training.start import new_run_dir

        recorded = self.offline or self.prefill_from
        if named is None and env:
            choose_env(base.config.env)  # refuses code that only the file of a run names
        _, factory = as_factory(env) if env else ("", None)
        settings = {**self.settings, "env.name": env}
        if self.variant is not None and (saved is not None or self.in_sweep):  # the run may have it already
            config = with_variant(base.config, self.variant).override(**settings)
        else:
            config = configure(base.config, self.variant, settings, self._spec_of)
        logdir = self.logdir or new_run_dir(env or str(recorded), base.preset, self.variant)
        if not self.quiet:
            # Of a resumed run, training says what differs from the saved settings.
            name = base.preset if saved is None else base.preset or recorded_names(logdir)[0]
            announce(logdir, config, name, base.config if saved is None else config)
        agent = train_config(
            config,
            logdir,
            resume=self.resume,
            env_factory=factory,
            origin=Launch(base.preset, self.variant, self.typed),
            loggers=() if self.log == ("none",) else self.log or ("tensorboard",),
            overwrite=self.overwrite,
            quiet=self.quiet,
            init=self.from_,
            keep=self.keep,
            fresh=self.fresh,
            data=None if recorded is None else Data(recorded),
        )
        if not self.quiet:
            say("\n  ".join(["\nNext:", *next_commands(agent, logdir)]))

    def base(self) -> Base:
        """Return the configuration whose values the help shows."""
        base = self._without_variant()
        return base if self.variant is None else Base(with_variant(base.config, self.variant), base.preset)

    def _without_variant(self) -> Base:
        saved = self._saved()
        if saved is not None and self.preset is None and self.config is None:
            return Base(saved)
        base = self._preset() if self.config is None else Base(load_config(self.config))
        return base if saved is None else base._replace(config=base.config.override(seed=saved.training.seed))

    def _preset(self) -> Base:
        named = self._named()
        if self.preset is None and named is None and self.offline is not None:
            found = default_preset("", self._spec_of, self.settings)
            return Base(found.config, found.name)
        return base_of(self.preset, named, "atari", self.settings)

    def _spec_of(self, env: EnvConfig) -> "EnvSpec":
        """Return the spec of an environment, or without one that of the recorded episodes."""
        from reverie.data import open_recording
        from reverie.envs import as_factory, env_spec

        if not env.name and self.offline is not None:
            return open_recording(self.offline).spec
        return env_spec(env, as_factory(env.name)[1])

    def _saved(self) -> Config | None:
        """Return the settings of the run that is resumed."""
        if not self.resume or self.logdir is None:
            return None

        from reverie.runs.run_folder import saved_settings

        return saved_settings(self.logdir)

    def _named(self) -> str | None:
        given = [name for name in (self.env, self.settings.get("env.name")) if name]
        require(len(given) < 2, f"The environment is given twice, as {' and '.join(given)}. Give one.")
        return given[0] if given else None


def base_of(name: str | None, env: str | None, otherwise: str, settings: Mapping[str, Any]) -> Base:
    """Return the preset of a command line: as named, or by the environment, or else another one.

    Raises:
        EnvError: if no preset is named and the environment is unknown or unsupported.
    """
    if name is None and env is not None:
        from reverie.envs import as_factory, env_spec

        found = default_preset(env, lambda config: env_spec(config, as_factory(config.name)[1]), settings)
        return Base(found.config, found.name)
    return of_preset(name or otherwise)


def announce(logdir: Path, config: Config, name: str | None, base: Config) -> None:
    """Print the environment, the folder, and every setting that differs from the preset."""
    with_preset = (" with preset ", (name, "cyan")) if name else ()
    say(
        "Training on ",
        (config.env.name or "recorded episodes", "bold"),
        *with_preset,
        "; the run folder is ",
        (str(logdir), "bold"),
    )
    for path, before, now in diff(config, base):
        if path != "env.name":
            say(f"  {path}: {as_text(now)} (was {as_text(before)})")


def next_commands(agent: "Dreamer", run: Path) -> list[str]:
    """Return commands for a trained run; dream only where there are images, and no longer than its episodes."""
    from reverie.runs.metrics import read_metrics

    env = agent.config.env.name
    named = ["--env", env] if ":" in env else []
    commands = [command_line("eval", run, *named, env=env)] if env else []
    commands.append(command_line("plot", run))
    lengths = [row["episode/length"] for row in read_metrics(run) if "episode/length" in row]
    horizon = min(Dream.horizon, int(lengths[-1]) + 1 - Dream.context) if lengths else Dream.horizon
    if env and agent.world_model.decoder.keys.images and horizon > 0:
        shorter = [] if horizon == Dream.horizon else ["--horizon", horizon]
        commands.insert(1, command_line("dream", run, *named, *shorter, env=env))
    return commands

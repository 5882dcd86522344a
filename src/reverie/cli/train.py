"""`reverie train`: train an agent in an environment."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.markup import escape

from reverie.cli.dream import Dream
from reverie.cli.options import Base, UsageError, console, given, parse, typed
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

_BY_ENV = (
    "(default: by the environment: atari for ALE/..., minatar for MinAtar/..., vector without images, crafter or "
    "dmc-vision with images and discrete or continuous actions)"
)
IN_SWEEP = "--in-sweep"
"""Word of a sweep, which has compared the variant with the plan's agent and not with the preset alone."""
_NEW_FOLDER = "(default: a new one, runs/ENV-PRESET-NUMBER)"
_OF_CONFIG = "(default: the one of --config)"


@dataclass(frozen=True)
class Train:
    """Train an agent in an environment.

    Every setting of the configuration is an option: its path with hyphens, for example --world-model.kl.scale 0.1.
    The resolved configuration is saved with the run.
    """

    environment: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="ENV", help_behavior_hint=_OF_CONFIG)
    ] = None
    """Gymnasium id, for example ALE/Pong-v5; reverie envs lists what is installed."""
    preset: Annotated[str | None, tyro.conf.arg(metavar="PRESET", help_behavior_hint=_BY_ENV)] = None
    """Settings to start from; reverie presets lists them."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """TOML file to start from in place of a preset: a run's config.toml, or settings on top of its base = "PRESET"."""
    variant: Annotated[str | None, tyro.conf.arg(metavar="VARIANT", help_behavior_hint="(default: none)")] = None
    """A change of the agent by its name, or several joined by +, on top of the preset; reverie variants lists them. One
    that changes nothing is refused, unless --resume continues a run, which may have it already."""
    logdir: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint=_NEW_FOLDER)] = None
    """Folder of the run."""
    resume: bool = False
    """Continue the run in --logdir with its saved settings, or start it if there is none; also --resume auto.

    Options given now are saved, too, and count until others are given; --preset and --config replace all settings but
    the seed."""


def run(argv: list[str]) -> None:
    """Train."""
    in_sweep = IN_SWEEP in argv
    argv = [argument for argument in argv if argument != IN_SWEEP]
    if environment := given(argv, "--env"):
        raise UsageError(f"The environment is the first argument: reverie train {environment}.")
    command, settings = parse("train", Train, _without_auto(argv), _base_for_help)
    if "env.name" in settings:
        raise UsageError("The environment is the first argument of reverie train, not --env.name.")
    if command.resume and command.logdir is None:
        raise UsageError("--resume needs the folder of the run: --logdir DIR.")
    environment, name, base, saved = _start(command)
    settings |= {"env.name": environment}
    if command.variant is not None and (saved is not None or in_sweep):  # the run may have it already
        config = with_variant(base, command.variant).override(**settings)
    else:
        config = configure(base, command.variant, settings, _spec_of)
    stem = "-".join([_slug(environment), name or "run", *([command.variant] if command.variant else [])])
    logdir = command.logdir or new_folder(Path("runs"), stem)
    if saved is None:
        announce(environment, name, logdir, config, base)
    else:
        from reverie.runs.provenance import recorded_names

        # Training says what differs from the saved settings.
        announce(environment, name or recorded_names(logdir)[0], logdir, config, config)

    from reverie.training import Launch, train_config

    origin = Launch(name, command.variant, typed("train", argv))
    agent = train_config(config, logdir, resume=command.resume, origin=origin)
    console().print("\nNext:", *next_commands(agent, logdir), sep="\n  ", markup=False, soft_wrap=True)


def next_commands(agent: "Dreamer", run: Path) -> list[str]:
    """Return commands for a trained run; dream only where there are images, and no longer than its episodes."""
    from reverie.runs.metrics import read_metrics

    env = agent.config.env.name
    commands = [command_line("eval", run, env=env), command_line("plot", run)]
    lengths = [row["train/length"] for row in read_metrics(run) if "train/length" in row]
    horizon = min(Dream.horizon, int(lengths[-1]) + 1 - Dream.context) if lengths else Dream.horizon
    if agent.world_model.decoder.keys.images and horizon > 0:
        shorter = [] if horizon == Dream.horizon else ["--horizon", horizon]
        commands.insert(1, command_line("dream", run, *shorter, env=env))
    return commands


def _spec_of(env: EnvConfig) -> EnvSpec:
    from reverie.envs import env_spec

    return env_spec(env)


def _without_auto(argv: list[str]) -> list[str]:
    """`--resume auto` is `--resume`, which starts or goes on, whichever fits."""
    return [word for before, word in zip(["", *argv], argv, strict=False) if (before, word) != ("--resume", "auto")]


def choose_preset(environment: str) -> str:
    """Preset for an environment when none is named; see `default_preset`.

    Raises:
        EnvError: if the environment is unknown or unsupported.
    """
    by_name = default_preset(environment)
    if by_name != "vector":
        return by_name

    from reverie.envs import env_spec

    return default_preset(environment, env_spec(EnvConfig(name=environment)))


def new_folder(parent: Path, stem: str) -> Path:
    """The first of `parent/stem-1`, `-2`, ... that does not exist."""
    number = 1
    while (folder := parent / f"{stem}-{number}").exists():
        number += 1
    return folder


def announce(environment: str, name: str | None, logdir: Path, config: Config, base: Config) -> None:
    """Print what is about to be trained, and every setting that was changed from the preset."""
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


def show(value: Any) -> str:
    """A setting's value as it is typed."""
    if isinstance(value, tuple):
        return " ".join(show(item) for item in value) or "(all)"
    if value == "":
        return "(none)"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:_}"
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        return short
    return str(value)


def _start(command: Train) -> tuple[str, str | None, Config, Config | None]:
    """Return the environment, the preset's name, what settings are added to, and the settings of a resumed run."""
    if command.preset is not None and command.config is not None:
        raise UsageError('--preset and --config are both given. Name the preset in the file, base = "PRESET".')
    saved = _saved(command.logdir) if command.resume and command.logdir else None
    name, base = command.preset, load_config(command.config) if command.config else None
    given_config = base or saved
    environment = command.environment or (given_config.env.name if given_config else "")
    if not environment:
        missing = f"{command.config} names no environment." if base else "The environment is missing."
        raise UsageError(f"{missing} Type reverie train ENV; reverie envs lists what is installed.")
    if base is None and name is None and saved is not None:
        return environment, None, saved, saved
    if base is None:
        name = (name or choose_preset(environment)).replace("_", "-")
        base = preset(name)
    return environment, name, base if saved is None else base.override(seed=saved.training.seed), saved


def _saved(logdir: Path | str) -> Config | None:
    from reverie.runs.run_folder import saved_settings

    return saved_settings(logdir)


def _base_for_help(argv: list[str]) -> Base:
    logdir, variant, file = given(argv, "--logdir"), given(argv, "--variant"), given(argv, "--config")
    saved = _saved(logdir) if "--resume" in argv and logdir else None
    if file is not None:
        base = Base(load_config(file), f"those of {file}.")
    elif saved is not None and given(argv, "--preset") is None:
        base = Base(saved, f"the settings saved in {logdir}.")
    else:
        values = {logdir, variant, given(argv, "--preset")}
        names = [argument for argument in argv if not argument.startswith("-") and argument not in values]
        base = base_of(given(argv, "--preset"), names[0] if names else None, "atari")
    return base if variant is None else Base(with_variant(base.config, variant), f"variant {variant}, {base.origin}")


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


def _slug(environment: str) -> str:
    return re.sub(r"[^\w.-]+", "-", environment.split("/")[-1]).strip("-") or "env"

"""`reverie demo`: from nothing to a trained agent, its score, its learning curve and its dreams, in minutes.

Everything here is done with the same functions that the other commands and a user's program call.
"""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from rich.panel import Panel
from rich.table import Table

from reverie.cli.console import console
from reverie.cli.parser import Base, SettingsCommand
from reverie.cli.plot import print_returns
from reverie.cli.train import announce, new_folder
from reverie.config import Config, preset
from reverie.shell import command_line

PRESET = "demo"
CONTEXT, HORIZON = 5, 45
"""Of the dream: steps that the model sees, and that it imagines."""


@dataclass(frozen=True)
class Demo(SettingsCommand):
    """Train on an Atari game for some minutes, then show what was learned.

    It evaluates the agent, draws its learning curve, and lets the world model dream on from what it has seen.
    """

    logdir: Path | None = None
    """Folder of the run; by default runs/demo."""
    episodes: int = 2
    """Episodes of the evaluation at the end."""

    def __call__(self) -> None:
        base = preset(PRESET)
        config = base.override(**self.settings)
        folder = self.logdir or _free_folder(Path("runs"))
        announce(config.env.name, PRESET, folder, config, base)
        started = time.monotonic()

        from reverie.runs.provenance import Launch
        from reverie.training import train_config
        from reverie.training.evaluate_policy import evaluate_policy

        agent = train_config(config, folder, origin=Launch(PRESET, command=self.typed))
        console().print("Evaluating the trained agent ...")
        scores = evaluate_policy(folder, episodes=self.episodes)
        console().print("Drawing ...")
        pictures = _draw(folder, bool(agent.world_model.decoder.keys.images))
        print_returns(folder)
        console().print(_summary(config, folder, scores.mean, pictures, time.monotonic() - started))

    def base(self) -> Base:
        """Return the preset."""
        return Base(preset(PRESET), f"preset {PRESET}.")


def _draw(folder: Path, has_images: bool) -> dict[str, Path]:
    """Pictures by what they show."""
    from reverie.analysis.dream import dream_run
    from reverie.analysis.plot import plot_learning_curve

    pictures = {"learning curve": plot_learning_curve([folder], folder / "learning-curve.png")}
    if has_images:
        pictures["dream, video"] = dream_run(folder, CONTEXT, HORIZON, folder / "videos" / "dream.gif")
        pictures["dream, stills"] = dream_run(folder, CONTEXT, HORIZON, folder / "videos" / "dream.png")
    return pictures


def _summary(config: Config, folder: Path, score: float, pictures: dict[str, Path], seconds: float) -> Panel:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    steps = config.training.steps
    frames = steps * config.env.action_repeat
    table.add_row("trained", f"{steps:,} agent steps ({frames:,} frames) in {seconds / 60:.1f} minutes")
    table.add_row("mean return", f"[green]{score:,.1f}[/]")
    for what, path in pictures.items():
        table.add_row(what, str(path))
    table.add_row("", "")
    if len(pictures) > 1:
        table.add_row("look", "The dream shows what happened, what the model imagined, and the error, row by row.")
    more = ["train", config.env.name, "--logdir", folder, "--resume", "--steps", 4 * steps]
    table.add_row("continue", command_line(*more, env=config.env.name))
    table.add_row("another game", command_line("train", "ALE/Pong-v5", "--preset", "atari-small"))
    table.add_row("in full", shlex.join(["tensorboard", "--logdir", str(folder)]))
    return Panel(table, title="What was learned", title_align="left", border_style="cyan", expand=False)


def _free_folder(parent: Path) -> Path:
    first = parent / "demo"
    return new_folder(parent, "demo") if first.exists() else first

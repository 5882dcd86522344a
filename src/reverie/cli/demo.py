"""`reverie demo`: train on an Atari game for minutes, and show score, learning curve and dream."""

import shlex
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from reverie.cli.console import print_table, require_positive, say
from reverie.cli.parser import Base, SettingsCommand, of_preset
from reverie.cli.plot import print_curve
from reverie.cli.train import announce
from reverie.shell import command_line

PRESET = "demo"
CONTEXT, HORIZON = 5, 45
"""Steps that the model sees, and that it imagines."""


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
        require_positive(self, "episodes")
        names = (Path("runs", f"demo-{number}" if number else "demo") for number in count())
        folder = self.logdir or next(name for name in names if not name.exists())
        config, started = self.configured, time.monotonic()
        announce(folder, config, PRESET, self.base().config)

        from reverie.analysis.dream import dream_run
        from reverie.analysis.plot import plot_learning_curve
        from reverie.analysis.runs import read_run
        from reverie.runs.provenance import Launch
        from reverie.training import train_config
        from reverie.training.evaluate_policy import evaluate_policy

        agent = train_config(config, folder, origin=Launch(PRESET, command=self.typed))
        say("Evaluating the trained agent ...")
        score = evaluate_policy(folder, episodes=self.episodes).mean
        say("Drawing ...")
        run = read_run(folder)
        facts = {"learning curve": str(plot_learning_curve([run], folder / "learning-curve.png"))}
        if agent.world_model.decoder.keys.images:
            for kind, ending in (("video", "gif"), ("stills", "png")):
                picture = dream_run(folder, CONTEXT, HORIZON, folder / "videos" / f"dream.{ending}")
                facts[f"dream, {kind}"] = str(picture)
            facts["rows"] = "What happened, what the model imagined, and the error."
        print_curve(run)
        env, steps = config.env.name, config.training.steps
        frames, minutes = steps * config.env.action_repeat, (time.monotonic() - started) / 60
        again = command_line("train", env, "--logdir", folder, "--resume", "--steps", 4 * steps, env=env)
        rows = {
            "trained": f"{steps:,} agent steps ({frames:,} frames) in {minutes:.1f} minutes",
            "mean return": f"{score:,.1f}",
            **facts,
            "continue": again,
            "another game": command_line("train", "ALE/Pong-v5", "--preset", "atari-small"),
            "in full": shlex.join(["tensorboard", "--logdir", str(folder)]),
        }
        print_table(("What was learned", ""), rows.items())

    def base(self) -> Base:
        """Return the preset."""
        return of_preset(PRESET)

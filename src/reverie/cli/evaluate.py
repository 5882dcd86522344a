"""`reverie eval`: score a trained agent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table

from reverie.cli.console import UsageError, console, require_positive


@dataclass(frozen=True)
class Eval:
    """Score a trained agent: episodes in new environments, with the actor's most likely actions."""

    run: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, of one of its checkpoints, or of a saved agent."""
    env: Annotated[str | None, tyro.conf.arg(metavar="ENV")] = None
    """Gymnasium id or module:Class, also from the current folder. None takes the run's; a run that was trained on a
    class needs it."""
    episodes: int = 10
    """Number of episodes."""
    seed: int | None = None
    """Seed of environments and latent states. None derives one from the run's."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the agent."""
    render: bool = False
    """Show the environment in a window."""
    video: Path | None = None
    """File to record the episodes to, .mp4."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __call__(self) -> None:
        require_positive(self, "episodes")
        if self.video is not None and self.video.suffix.lower() != ".mp4":
            raise UsageError(f"--video is {self.video}, but its name must end in .mp4.")

        from reverie.analysis.evaluation import with_references
        from reverie.training.evaluate_policy import evaluate_policy
        from reverie.training.threads import act_on_one_thread

        act_on_one_thread()
        evaluation = evaluate_policy(
            self.run,
            self.env,
            self.episodes,
            seed=self.seed,
            device=self.device,
            render=self.render,
            video=self.video,
        )
        result = with_references(evaluation.to_json())
        if self.json:
            print(json.dumps(result))
            return
        print_scores(result)
        if self.video is not None:
            console().print(f"Wrote {self.video}", markup=False)


def print_scores(result: Mapping[str, Any]) -> None:
    """Print a table of the episodes, their mean, and what it is compared with."""
    from reverie.analysis.evaluation import NAMES, cautions, protocol_line

    table = Table("episode", "return", "length")
    for column in table.columns:
        column.justify = "right"
    for number, episode in enumerate(result["episodes"], 1):
        table.add_row(str(number), f"{episode['return']:,.2f}", f"{episode['length']:,}")
    out = console()
    out.print(table)
    spread = ""
    if result["interval"] is not None:
        low, high = result["interval"]
        spread = f", 95% interval {low:,.2f} to {high:,.2f}, standard deviation {result['std']:,.2f}"
    out.print(f"mean return {result['mean']:,.2f}{spread}, n = {len(result['episodes'])}")
    if result["normalised"]:
        scores = (f"{value:.3f} {NAMES[kind]}" for kind, value in result["normalised"].items())
        out.print("normalised: " + ", ".join(scores))
    if result["references"]:
        known = (f"{name.replace('_', ' ')} {score:,.1f}" for name, score in result["references"].items())
        out.print("published: " + ", ".join(known))
    out.print(f"protocol: {protocol_line(result)}")
    for sentence in cautions(result):
        out.print(f"[yellow]note:[/yellow] {sentence}")

"""`reverie eval`: score a trained agent."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reverie.cli.console import print_table, require, require_positive, say


@dataclass(frozen=True)
class Eval:
    """Score a trained agent: episodes in new environments, with the actor's most likely actions."""

    run: Path
    """Folder of a run, of one of its checkpoints, or of a saved agent."""
    env: str | None = None
    """Gymnasium id or module:Class, also from the current folder; needed if the run was trained on a class."""
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
        is_video = self.video is None or self.video.suffix.lower() == ".mp4"
        require(is_video, f"--video is {self.video}, but its name must end in .mp4.")

        from reverie.analysis.scores import NAMES, cautions, protocol_line, with_published
        from reverie.training.evaluate_policy import evaluate_policy
        from reverie.training.threads import act_on_one_thread

        act_on_one_thread()
        more: dict[str, Any] = {"seed": self.seed, "device": self.device, "render": self.render, "video": self.video}
        result = with_published(evaluate_policy(self.run, self.env, self.episodes, **more).to_json())
        if self.json:
            print(json.dumps(result))
            return
        header, spread = ("episode", "return", "length"), ""
        rows = [(str(i), f"{one['return']:,.2f}", f"{one['length']:,}") for i, one in enumerate(result["episodes"], 1)]
        print_table(header, rows, right=header)
        if result["interval"] is not None:
            low, high = result["interval"]
            spread = f", 95% interval {low:,.2f} to {high:,.2f}, standard deviation {result['std']:,.2f}"
        say(f"mean return {result['mean']:,.2f}{spread}, n = {len(rows)}")
        if scores := result["normalised"]:
            say("normalised: " + ", ".join(f"{value:.3f} {NAMES[kind]}" for kind, value in scores.items()))
        if known := result["references"]:
            say("published: " + ", ".join(f"{name.replace('_', ' ')} {score:,.1f}" for name, score in known.items()))
        say(f"protocol: {protocol_line(result)}")
        for sentence in cautions(result):
            say(("note: ", "yellow"), sentence)
        if self.video is not None:
            say(f"Wrote {self.video}")

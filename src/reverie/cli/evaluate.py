"""`reverie eval`: score a trained agent."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.table import Table

from reverie.cli.console import console, require_positive


@dataclass(frozen=True)
class Eval:
    """Score a trained agent: episodes in new environments, with the actor's most likely actions."""

    run: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, of one of its checkpoints, or of a saved agent."""
    episodes: int = 10
    """Episodes to play."""
    seed: int | None = None
    """Of the environments and the latent states; None takes the run's."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the agent runs."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __call__(self) -> None:
        require_positive(self, "episodes")

        from reverie.analysis.evaluation import NAMES, cautions, protocol_line, with_references
        from reverie.training import evaluate_run
        from reverie.training.threads import act_on_one_thread

        act_on_one_thread()
        result = with_references(evaluate_run(self.run, self.episodes, self.seed, self.device))
        if self.json:
            print(json.dumps(result))
            return
        table = Table("episode", "return", "length")
        for column in table.columns:
            column.justify = "right"
        for number, episode in enumerate(result["episodes"], 1):
            table.add_row(str(number), f"{episode['return']:,.2f}", f"{episode['length']:,}")
        out = console()
        out.print(table)
        spread = ""
        if result["std"] is not None:
            spread = f", standard deviation {result['std']:,.2f}, standard error {result['standard_error']:,.2f}"
        out.print(f"mean return {result['mean']:,.2f}{spread}, n = {len(result['episodes'])}")
        if result["normalised"]:
            out.print(
                "normalised: " + ", ".join(f"{value:.3f} {NAMES[kind]}" for kind, value in result["normalised"].items())
            )
        if result["references"]:
            known = (f"{name.replace('_', ' ')} {score:,.1f}" for name, score in result["references"].items())
            out.print("published: " + ", ".join(known))
        out.print(f"protocol: {protocol_line(result)}")
        for sentence in cautions(result):
            out.print(f"[yellow]note:[/yellow] {sentence}")

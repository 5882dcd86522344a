"""`reverie diagnose`: examine a run's world model, and suggest what to try."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reverie.cli.console import console, require_positive, say


@dataclass(frozen=True)
class Diagnose:
    """Examine a run: latents, predictions, calibration, values, actor and gradients, as text and as pictures.

    Reads the newest checkpoint, sequences from the run's replay, and its metrics. The run may still be training.
    """

    run: Path
    """Folder of a run, or of one of its checkpoints."""
    holdout: Path | None = None
    """Another run of the same environment, whose replay shows what was overfitted."""
    out: Path = Path("diagnose.png")
    """Page of pictures to write: .png, .svg or .pdf."""
    batches: int = 8
    """Batches of 16 sequences that are read."""
    context: int = 5
    """Steps that the model sees before it imagines."""
    horizon: int = 45
    """Steps that it then imagines. With the context, the length of all sequences."""
    seed: int | None = None
    """Seed of the sequences and samples; None takes the run's."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the agent."""
    json: bool = False
    """Print one JSON object instead of a page."""

    def __call__(self) -> None:
        require_positive(self, "batches", "context", "horizon")

        from reverie.analysis.charts import check_suffix
        from reverie.analysis.diagnose import examine, find
        from reverie.analysis.diagnose.page import WIDTH, page, to_json
        from reverie.analysis.diagnose.picture import draw
        from reverie.training.threads import act_on_one_thread

        check_suffix(self.out)
        act_on_one_thread()
        report = examine(self.run, self.holdout, self.batches, self.context, self.horizon, self.seed, self.device)
        findings = find(report)
        draw(report, findings, self.out)
        if self.json:
            print(json.dumps({**to_json(report, findings), "picture": str(self.out)}))
            return
        out = console()
        out.print(page(report, findings), width=min(out.width, WIDTH))
        say(f"\nWrote {self.out}")

"""`reverie dream`: draw an open-loop prediction and what happened."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reverie.cli.console import UsageError, console, require_positive

FORMATS = (".gif", ".mp4", ".png")


@dataclass(frozen=True)
class Dream:
    """Draw an open-loop prediction: truth, model, error.

    The agent plays an episode. From its middle, the model sees some steps, then imagines more from the actions alone.
    """

    run: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Folder of a run or of one of its checkpoints."""
    env: Annotated[str | None, tyro.conf.arg(metavar="ENV")] = None
    """Gymnasium id or module:Class, also from the current folder. None takes the run's; a run that was trained on a
    class needs it."""
    context: int = 5
    """Steps that the model sees."""
    horizon: int = 50
    """Steps that it imagines."""
    seed: int | None = None
    """Seed of the environment and of all samples. None derives one from the run's."""
    fps: float = 15.0
    """Frames per second of a video."""
    out: Path | None = None
    """File to write: .gif or .mp4 for a video, .png for a strip of stills. None is dream.gif in the run's videos."""

    def __call__(self) -> None:
        require_positive(self, "context", "horizon", "fps")
        out = self.out or default_out(self.run)
        if out.suffix.lower() not in FORMATS:
            raise UsageError(f"--out is {out}, but its name must end in .gif, .mp4 or .png.")

        from reverie.analysis.dream import dream_run
        from reverie.training.threads import act_on_one_thread

        act_on_one_thread()
        dream_run(self.run, self.context, self.horizon, out, env=self.env, seed=self.seed, fps=self.fps)
        console().print(f"Wrote {out}", markup=False)


def default_out(run: Path) -> Path:
    """Return dream.gif in the videos of the run, if the path is that of a run; otherwise in the current folder."""
    return run / "videos" / "dream.gif" if (run / "videos").is_dir() else Path("dream.gif")

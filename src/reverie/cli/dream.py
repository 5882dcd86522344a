"""`reverie dream`: draw an open-loop prediction and what happened."""

from dataclasses import dataclass
from pathlib import Path

from reverie.cli.console import require, require_positive, say


@dataclass(frozen=True)
class Dream:
    """Draw an open-loop prediction: truth, model, error.

    The agent plays an episode. From its middle, the model sees some steps, then imagines more from the actions alone.
    """

    run: Path
    """Folder of a run or of one of its checkpoints."""
    env: str | None = None
    """Gymnasium id or module:Class, also from the current folder; needed if the run was trained on a class."""
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
        videos = self.run / "videos"
        out = self.out or (videos if videos.is_dir() else Path()) / "dream.gif"
        known = f"--out is {out}, but its name must end in .gif, .mp4 or .png."
        require(out.suffix.lower() in (".gif", ".mp4", ".png"), known)

        from reverie.analysis.dream import dream_run
        from reverie.training.threads import act_on_one_thread

        act_on_one_thread()
        dream_run(self.run, self.context, self.horizon, out, env=self.env, seed=self.seed, fps=self.fps)
        say(f"Wrote {out}")

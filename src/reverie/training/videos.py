"""Open-loop videos during training."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from reverie.replay import ReplayBuffer
from reverie.training.callbacks import Callback, Run
from reverie.training.counters import Counters
from reverie.training.dreams import draw_dream
from reverie.training.every import Every
from reverie.training.loggers import Loggers
from reverie.training.metrics import Metrics
from reverie.training.stop_signal import StopSignal
from reverie.video import save_video

CONTEXT = 5
"""Steps that the model sees before it imagines."""


class Videos(Callback):
    """Saves an open-loop prediction every `training.video_every` steps, and at the end of the run.

    The sequences and samples of a video depend on the step alone, and not on the run's generators.

    Args:
        every: when a video is due.
        replay: source of the sequences.
        folder: for the files `dream-STEP.gif` and `.png`.
        metrics: timer of the drawing.
        loggers: get each video.
        stop: no video is drawn once it is requested.
    """

    def __init__(
        self,
        every: Every,
        replay: ReplayBuffer,
        folder: Path,
        metrics: Metrics,
        loggers: Loggers,
        stop: StopSignal,
    ) -> None:
        self._every, self._replay, self._folder = every, replay, folder
        self._metrics, self._loggers, self._stop = metrics, loggers, stop

    def on_start(self, run: Run) -> None:
        """Keep the run."""
        self._run = run

    def on_step(self, counters: Counters, transitions: object) -> None:
        """Save a video if it is due; the last step is left to the end of the run."""
        if not counters.is_pretrained or counters.steps >= self._run.config.training.steps or self._stop.requested:
            return
        if self._every(counters.steps):
            self._save(counters)

    def on_end(self) -> None:
        """Save the last video, unless the run ends in its prefill."""
        if self._every.period and self._run.counters.is_pretrained:
            self._save(self._run.counters)

    def _save(self, counters: Counters) -> None:
        with self._metrics.timer("video"):
            agent = self._run.agent
            batch = self._replay.sample(np.random.default_rng(counters.steps))
            generator = torch.Generator(agent.device).manual_seed(counters.steps)
            video, strip = draw_dream(agent, batch, CONTEXT, generator)
            stem = self._folder / f"dream-{counters.steps:09d}"
            for path in (save_video(video, stem.with_suffix(".gif")), save_video(strip, stem.with_suffix(".png"))):
                counters.videos[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
            self._loggers.video(counters.steps, "model/dream", video, fps=15)

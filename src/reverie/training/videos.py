"""Open-loop videos during training."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from typing_extensions import override

from reverie.replay import ReplayBuffer
from reverie.training.callbacks import Callback
from reverie.training.counters import Counters
from reverie.training.dreams import draw_dream
from reverie.training.every import Every
from reverie.training.loggers import Loggers, Video
from reverie.training.metrics import Metrics
from reverie.training.stop_signal import StopSignal
from reverie.video import save_video

CONTEXT = 5
"""Steps that the model sees before it imagines."""
FPS = 15


@dataclass(eq=False)
class Videos(Callback):
    """Saves an open-loop prediction every `training.video_every` steps, and at the end of the run.

    The sequences and samples of a video depend on the step alone, and not on the run's generators.
    """

    every: Every
    replay: ReplayBuffer
    folder: Path
    """For the files `dream-STEP.gif` and `.png`."""
    metrics: Metrics
    loggers: Loggers
    stop: StopSignal

    @override
    def on_step(self, counters: Counters, transitions: object) -> None:
        """Save a video if it is due; the last step is left to the end of the run."""
        is_last = counters.steps >= self.run.config.training.steps
        if counters.is_pretrained and not is_last and not self.stop.requested and self.every(counters.steps):
            self._save(counters)

    @override
    def on_end(self) -> None:
        """Save the last video, unless the run ends in its prefill."""
        if self.every.period and self.run.counters.is_pretrained:
            self._save(self.run.counters)

    def _save(self, counters: Counters) -> None:
        with self.metrics.timer("video"):
            agent = self.run.agent
            batch = self.replay.sample(np.random.default_rng(counters.steps))
            generator = torch.Generator(agent.device).manual_seed(counters.steps)
            video, strip = draw_dream(agent, batch, CONTEXT, generator)
            stem = self.folder / f"dream-{counters.steps:09d}"
            gif = save_video(video, stem.with_suffix(".gif"), FPS)
            for path in (gif, save_video(strip, stem.with_suffix(".png"))):
                counters.videos[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
            self.loggers.video(counters.steps, "model/dream", Video(video, FPS, gif))

"""Open-loop predictions of the world model as videos, also during training."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from reverie.acting import to_tensors
from reverie.dreamer import Dreamer
from reverie.replay import ReplayBuffer
from reverie.specs import Step
from reverie.training.callbacks import Callback
from reverie.training.counters import Counters
from reverie.training.every import Every
from reverie.training.loggers import Loggers
from reverie.training.metrics import Metrics
from reverie.training.stop_signal import StopSignal
from reverie.video import dream_frames, dream_strip, save_video

CONTEXT = 5
"""Steps that the model sees before it imagines."""
FPS = 15
SHOWN = 4
"""Sequences side by side in a video."""

Frames = NDArray[np.uint8]


@torch.no_grad()
def draw_dream(agent: Dreamer, batch: Step, context: int, generator: torch.Generator) -> tuple[Frames, Frames]:
    """Draw an open-loop prediction: states are inferred for `context` steps, then imagined along the true actions.

    Args:
        agent: its world model predicts images.
        batch: sequences of raw steps, [T, B, …]; the first few are drawn.
        context: steps whose images the model is given, fewer than T.
        generator: source of the samples.

    Returns:
        A video [T, H, W, 3] of truth, model and error, and stills [H, W, 3].
    """
    context = min(context, len(batch["is_first"]) - 1)
    batch = {key: value[:, :SHOWN] for key, value in batch.items()}
    model, steps = agent.world_model, to_tensors(batch, agent.device)
    noise = model.rssm.latents.draw_noise(tuple(steps["is_first"].shape), generator)
    with agent.autocast():
        posterior = model.infer({key: value[:context] for key, value in steps.items()}, noise=noise[:context]).posterior
        actions = steps["action"][context:].float()
        prior = model.rssm.imagine(actions, posterior.map(lambda part: part[-1]), noise[context:])
        images = model.decoder.images(torch.cat([posterior.feat, prior.feat]))
    key, image = next(iter(images.items()))
    predicted = (image + 0.5).clamp(0, 1).float().cpu().numpy().swapaxes(0, 1)
    truth, is_first = batch[key].swapaxes(0, 1), batch["is_first"].swapaxes(0, 1)
    video = dream_frames(truth, predicted, context, is_first)
    return video, dream_strip(truth[0], predicted[0], context, is_first[0])


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
            self.loggers.video(counters.steps, "model/dream", gif)

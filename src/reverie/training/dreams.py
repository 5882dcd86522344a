"""Open-loop videos of what the world model expects."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reverie.agent import Dreamer
from reverie.specs import Step
from reverie.video import dream_frames, dream_strip, save_video

SHOWN = 4
"""Sequences side by side in a video."""

Frames = NDArray[np.uint8]


def draw_dream(agent: Dreamer, batch: Step, context: int, generator: torch.Generator) -> tuple[Frames, Frames]:
    """Draw truth, model and error of an open-loop prediction.

    Args:
        agent: imagines.
        batch: sequences of raw steps, [T, B, …], with at least one image key, of which the first is drawn.
        context: steps that the model sees.
        generator: of the samples.

    Returns:
        A video [T, H, W, 3], and a strip of stills [H, W, 3] of the first sequence.
    """
    context = min(context, len(batch["is_first"]) - 1)
    sequences = {key: value[:, :SHOWN] for key, value in batch.items()}
    key, predicted = next(iter(agent.open_loop(sequences, context, generator).items()))
    truth = sequences[key].swapaxes(0, 1)
    model = predicted.float().cpu().numpy().swapaxes(0, 1)
    is_first = sequences["is_first"].swapaxes(0, 1)
    video = dream_frames(truth, model, context, is_first=is_first)
    return video, dream_strip(truth[0], model[0], context, is_first=is_first[0])


def save_dream(agent: Dreamer, batch: Step, context: int, stem: Path, generator: torch.Generator) -> tuple[Path, Path]:
    """Save `draw_dream`.

    Returns:
        The files of the video, `stem`.gif, and of the stills, `stem`.png.
    """
    video, strip = draw_dream(agent, batch, context, generator)
    return save_video(video, stem.with_suffix(".gif")), save_video(strip, stem.with_suffix(".png"))

"""Open-loop predictions of the world model, as tensors and as pictures."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reverie.acting import to_tensors
from reverie.dreamer import Dreamer
from reverie.specs import Array, Step
from reverie.video import dream_frames, dream_strip

SHOWN = 4
"""Sequences side by side in a video."""

Frames = NDArray[np.uint8]


@torch.no_grad()
def open_loop(
    agent: Dreamer, batch: Mapping[str, Array | Tensor], context: int, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Predict images open-loop: infer the states of `context` steps, then imagine along the true actions.

    Args:
        agent: its world model predicts.
        batch: sequences of raw steps, [T, B, …], T above `context`.
        context: steps whose images the model is given.
        generator: source of the samples; None is the agent's acting generator.

    Returns:
        By image key, float images [T, B, 64, 64, C] in [0, 1].
    """
    model, steps = agent.world_model, to_tensors(batch, agent.device)
    noise = model.rssm.latents.draw_noise(tuple(steps["is_first"].shape), generator or agent.act_generator)
    with agent.autocast():
        seen = {key: value[:context] for key, value in steps.items()}
        posterior = model.infer(seen, noise=noise[:context]).posterior
        actions = steps["action"][context:].float()
        prior = model.rssm.imagine(actions, posterior.map(lambda part: part[-1]), noise[context:])
        images = model.decoder.images(torch.cat([posterior.feat, prior.feat]))
    return {key: (image + 0.5).clamp(0, 1) for key, image in images.items()}


def draw_dream(agent: Dreamer, batch: Step, context: int, generator: torch.Generator) -> tuple[Frames, Frames]:
    """Draw a video [T, H, W, 3] of truth, model and error, and stills [H, W, 3]; see `open_loop` for the arguments."""
    context = min(context, len(batch["is_first"]) - 1)
    sequences = {key: value[:, :SHOWN] for key, value in batch.items()}
    key, predicted = next(iter(open_loop(agent, sequences, context, generator).items()))
    truth = sequences[key].swapaxes(0, 1)
    model = predicted.float().cpu().numpy().swapaxes(0, 1)
    is_first = sequences["is_first"].swapaxes(0, 1)
    video = dream_frames(truth, model, context, is_first)
    return video, dream_strip(truth[0], model[0], context, is_first[0])

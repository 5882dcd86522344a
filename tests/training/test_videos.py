"""The arrays that a dream of a real agent is drawn from."""

import numpy as np
import torch

from reverie.dreamer import Dreamer
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from reverie.training.videos import draw_dream
from reverie.video import OTHER
from tests.helpers.agents import random_steps, tiny


def test_draw_dream_marks_where_the_batch_goes_to_another_episode() -> None:
    agent = Dreamer(tiny(), EnvSpec({"image": ArraySpec((64, 64, 1), "uint8")}, ActionSpec("discrete", (3,))))
    batch = random_steps(agent.spec, (8, 2))
    batch["image"][:] = 0
    marked = []
    for border in (False, True):
        batch["is_first"][6, 0] = border
        video, strip = draw_dream(agent, batch, 3, torch.Generator().manual_seed(0))
        pink = (video == np.array(OTHER)).all(-1).sum((1, 2))
        marked.append((np.flatnonzero(pink > pink.min()).tolist(), bool((strip == np.array(OTHER)).all(-1).any())))
    assert marked == [([], False), ([6, 7], True)]

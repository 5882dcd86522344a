"""`reverie dream`: an open-loop prediction on an episode that the agent plays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from reverie.acting import AgentPolicy
from reverie.agents import load
from reverie.dreamer import Dreamer
from reverie.envs import make_env
from reverie.errors import RunError
from reverie.specs import Step
from reverie.training.collectors import SyncCollector
from reverie.training.dreams import draw_dream
from reverie.training.evaluation import evaluation_seed
from reverie.video import save_video

MAX_EPISODES = 100


def dream_run(run: Path, context: int, horizon: int, out: Path, device: str = "auto") -> Path:
    """Play until an episode is long enough, then draw what the model expects of its middle.

    Args:
        run: a run folder, a checkpoint, or a saved agent.
        context: steps that the model sees.
        horizon: steps that it imagines.
        out: .gif or .mp4 for a video, .png for a strip of stills.
        device: where the agent runs.

    Returns:
        `out`.

    Raises:
        RunError: if the agent sees no images, or its episodes are too short.
    """
    agent = load(run, device)
    if not agent.world_model.decoder.keys.images:
        raise RunError(f"The agent in {run} predicts no images, so there is nothing to draw.")
    episode = _play(agent, context + horizon)
    start = (len(episode["is_first"]) - context - horizon) // 2
    window = {key: value[start : start + context + horizon] for key, value in episode.items()}
    generator = torch.Generator(agent.device).manual_seed(agent.config.training.seed)
    video, strip = draw_dream(agent, window, context, generator)
    return save_video(strip if out.suffix.lower() == ".png" else video, out)


def _play(agent: Dreamer, length: int) -> Step:
    """The first episode of at least `length` steps, [T, 1, …], broken off when it is long enough to choose from."""
    seed = evaluation_seed(agent.config.training.seed, 0)
    policy = AgentPolicy(agent, generator=torch.Generator(agent.device).manual_seed(seed))
    with make_env(replace(agent.config.env, num_envs=1), seed) as env:
        collector = SyncCollector(env)
        longest = 0
        for _ in range(MAX_EPISODES):
            steps: list[Step] = []
            ended = False
            while not ended and len(steps) < 4 * length:
                (collected,) = collector.step(policy)
                if collected.steps[0][0]["is_first"].all():
                    steps.clear()
                steps += [step for step, _ in collected.steps]
                ended = bool(collected.episodes)
            longest = max(longest, len(steps))
            if len(steps) >= length:
                return {key: np.stack([step[key] for step in steps]) for key in steps[0]}
    raise RunError(
        f"The longest of {MAX_EPISODES} episodes has {longest} steps, but context and horizon need {length}; "
        "choose a smaller --horizon."
    )

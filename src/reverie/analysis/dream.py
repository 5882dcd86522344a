"""`reverie dream`: an open-loop prediction on an episode that the agent plays."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.acting import AgentPolicy
from reverie.agents import load
from reverie.collectors.sync_collector import SyncCollector
from reverie.envs import choose_env, make_env
from reverie.errors import RunError
from reverie.specs import Step
from reverie.training.evaluation import check_spec, evaluation_seed
from reverie.training.videos import draw_dream
from reverie.video import save_video

MAX_EPISODES = 10  # episodes that are played in search of one that is long enough


def dream_run(
    run: Path, context: int, horizon: int, out: Path, *, env: Any = None, seed: int | None = None, fps: float = 15.0
) -> Path:
    """Play until an episode is long enough, then draw what the model expects of its middle.

    Args:
        run: a run folder, a checkpoint, or a saved agent.
        context: steps that the model sees.
        horizon: steps that it imagines.
        out: .gif or .mp4 for a video, .png for a strip of stills; returned.
        env: environment in place of the agent's own, see `choose_env`.
        seed: seed of the environment and of all samples; None derives one from the run's.
        fps: frames per second of a video.

    Raises:
        RunError: if the agent sees no images, or its episodes are too short.
    """
    agent = load(run)
    if not agent.world_model.decoder.keys.images:
        raise RunError(f"The agent in {run} predicts no images. There is nothing to draw.")
    seed = evaluation_seed(agent.config.training.seed, 0) if seed is None else seed
    config, factory = choose_env(agent.config.env, env)
    length, longest = context + horizon, 0
    policy = AgentPolicy(agent, generator=torch.Generator(agent.device).manual_seed(seed))
    with make_env(replace(config, num_envs=1), seed, factory) as played:
        check_spec(agent, played.spec, config.name)
        collector = SyncCollector(played)
        for _ in range(MAX_EPISODES):
            steps: list[Step] = []
            is_over = False
            while not is_over and len(steps) < 4 * length:
                (collected,) = collector.step(policy)
                if collected.steps[0][0]["is_first"].all():
                    steps.clear()
                steps += [step for step, _ in collected.steps]
                is_over = bool(collected.episodes)
            longest = max(longest, len(steps))
            if longest >= length:
                break
    if longest < length:
        advice = f"--horizon {longest - context} or less" if longest > context else "a smaller --context"
        raise RunError(
            f"The longest of {MAX_EPISODES} episodes has {longest - 1} steps. That is too short for --context and "
            f"--horizon. Choose {advice}."
        )
    start = (longest - length) // 2
    window = {key: np.stack([step[key] for step in steps[start : start + length]]) for key in steps[0]}
    video, strip = draw_dream(agent, window, context, torch.Generator(agent.device).manual_seed(seed))
    return save_video(strip if out.suffix.lower() == ".png" else video, out, fps)

"""`reverie dream`: an open-loop prediction on an episode that the agent plays."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.acting import AgentPolicy
from reverie.agents import load
from reverie.dreamer import Dreamer
from reverie.envs import VectorEnv, choose_env, make_env
from reverie.errors import RunError
from reverie.specs import Step
from reverie.training.collectors import SyncCollector
from reverie.training.evaluation import check_spec, evaluation_seed
from reverie.training.videos import draw_dream
from reverie.video import save_video

MAX_EPISODES = 10
"""Episodes that are played in search of one that is long enough."""


def dream_run(
    run: Path,
    context: int,
    horizon: int,
    out: Path,
    *,
    env: Any = None,
    seed: int | None = None,
    fps: float = 15.0,
    device: str = "auto",
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
        device: where the agent runs.

    Raises:
        RunError: if the agent sees no images, or its episodes are too short.
    """
    agent = load(run, device)
    if not agent.world_model.decoder.keys.images:
        raise RunError(f"The agent in {run} predicts no images. There is nothing to draw.")
    seed = evaluation_seed(agent.config.training.seed, 0) if seed is None else seed
    config, factory = choose_env(agent.config.env, env)
    length, limit = context + horizon, config.time_limit
    if 0 < limit < length - 1:
        raise _too_short(f"Episodes end after {limit} steps (env.time_limit)", limit + 1, context)
    with make_env(replace(config, num_envs=1), seed, factory) as played:
        check_spec(agent, played.spec, config.name)
        episode, longest = _play(agent, played, seed, length)
    if not episode:
        raise _too_short(f"The longest of {MAX_EPISODES} episodes has {longest - 1} steps", longest, context)
    start = (longest - length) // 2
    window = {key: np.stack([step[key] for step in episode[start : start + length]]) for key in episode[0]}
    video, strip = draw_dream(agent, window, context, torch.Generator(agent.device).manual_seed(seed))
    return save_video(strip if out.suffix.lower() == ".png" else video, out, fps)


def _play(agent: Dreamer, env: VectorEnv, seed: int, length: int) -> tuple[list[Step], int]:
    """Return the steps of the first episode that is long enough, cut off at four times that, and the longest length."""
    policy = AgentPolicy(agent, generator=torch.Generator(agent.device).manual_seed(seed))
    collector, longest = SyncCollector(env), 0
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
            return steps, longest
    return [], longest


def _too_short(what: str, length: int, context: int) -> RunError:
    fits = length - context
    advice = f"Choose --horizon {fits} or less." if fits > 0 else "Choose a smaller --context."
    return RunError(f"{what}. That is too short for --context and --horizon. {advice}")

"""The test environments themselves: what their docstrings promise about scores holds."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from tests.helpers.environments import Catch, Counting, Everything, Recall


def scores(env: Any, policy: Callable[[Any], int], episodes: int) -> tuple[Any, int]:
    """Score of each episode, and the length of the last one."""
    results, length = [], 0
    for episode in range(episodes):
        image, _ = env.reset(seed=0 if episode == 0 else None)
        score, over, length = 0.0, False, 0
        while not over:
            image, reward, terminated, truncated, _ = env.step(policy(image))
            score += reward
            length += 1
            over = terminated or truncated
        results.append(score)
    return np.array(results), length


@pytest.mark.parametrize(
    "create",
    [Catch, Recall, partial(Counting, 5), *(partial(Everything, kind) for kind in Everything.actions)],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_conform_to_gymnasium(create: Callable[[], gymnasium.Env[Any, Any]]) -> None:
    check_env(create())


@pytest.mark.parametrize(("env", "steps"), [(Catch(), 59), (Recall(), 55)])
def test_best_and_random_scores(env: Any, steps: int) -> None:
    best = (lambda image: env.best_action()) if isinstance(env, Catch) else (lambda image: env.cue)
    assert scores(env, best, 20)[0].tolist() == [env.best_score] * 20
    rng = np.random.default_rng(0)
    random, length = scores(env, lambda image: int(rng.integers(env.action_space.n)), 600)
    assert abs(random.mean() - env.random_score) < 4 * random.std() / np.sqrt(len(random))
    assert length == steps


@pytest.mark.parametrize("start", range(5))
@pytest.mark.parametrize("column", range(5))
def test_every_ball_can_be_caught(start: int, column: int) -> None:
    env = Catch(1)
    env.reset(seed=0)
    env.paddle, env.column = start, column
    rewards = [env.step(env.best_action())[1] for _ in range(5)]
    assert rewards == [0, 0, 0, 0, 1]


def test_the_cue_is_gone_at_the_go_sign() -> None:
    """All images from the first of the delay to the go sign are the same for both cues; the cues differ."""
    images: dict[int, list[Any]] = {}
    env = Recall(trials=2)
    seed = 0
    while len(images) < 2:
        image, _ = env.reset(seed=seed)
        episode = [image] + [env.step(seed % 2)[0] for _ in range(5)]
        assert env.phase == "go"
        images[env.cue] = episode
        seed += 1
    for time in range(6):
        assert (images[0][time] == images[1][time]).all() == (time >= 2)


def test_every_policy_of_the_current_image_scores_zero() -> None:
    """The four deterministic ones differ at the go sign only by a constant, so two are all there are."""
    env = Recall()
    for choice in (0, 1):
        results, _ = scores(env, lambda image, choice=choice: choice, 400)
        assert abs(results.mean()) < 4 * results.std() / np.sqrt(len(results))

"""`VectorEnv.get_states` and `set_states`: another process continues the same episodes, or says why it cannot."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from reverie.config import EnvConfig
from reverie.envs import VectorEnv, make_env
from reverie.envs.minatar import MinAtar
from reverie.envs.workers import IS_SUPPORTED
from reverie.errors import EnvError
from reverie.specs import Step
from tests.helpers.environments import Catch

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="worker processes need POSIX")
BEFORE, AFTER = 30, 20
"""Steps before and after the states are saved."""
FACTORIES: dict[str, Callable[[], Any]] = {
    "replayed": partial(Catch, 3),
    "own state": partial(MinAtar, "asterix"),
    "at the end": partial(Catch, 1),
}


def play(env: VectorEnv, rng: np.random.Generator, steps: list[Step], num_steps: int) -> None:
    """Continue with random actions after the last of `steps`, to which each reset and step is appended."""
    for _ in range(num_steps):
        if not steps or steps[-1]["is_last"].any():
            is_over = steps[-1]["is_last"] if steps else np.ones(env.num_envs, bool)
            action = np.zeros((env.num_envs, env.spec.action.size), np.float32)
            steps.append({**env.reset(is_over), "action": action})
        action = np.eye(env.spec.action.size, dtype=np.float32)[rng.integers(env.spec.action.size, size=env.num_envs)]
        steps.append({**env.step(action), "action": action})


def latest_episode(steps: list[Step], index: int) -> Iterator[Step]:
    """Yield the latest episode of an environment as the replay does: the first step by itself, then the others."""
    episode: list[Step] = []
    for step in steps:
        if step["is_first"][index]:
            episode = [step]
        elif step["action"][index].any():  # not the reset of another environment
            episode.append(step)
    yield {key: rows[None, index] for key, rows in episode[0].items()}
    for start in range(1, len(episode), 7):
        piece = episode[start : start + 7]
        yield {key: np.stack([step[key][index] for step in piece]) for key in piece[0]}


def set_states(env: VectorEnv, saved: list[Any], steps: list[Step], drop: int = 0) -> tuple[list[str], Step]:
    """Restore states with the steps but the last `drop` ones; return the problems and the latest step."""
    latest = {key: rows.copy() for key, rows in steps[-1].items() if key != "action"}
    held = steps[: len(steps) - drop]
    episodes = [partial(latest_episode, held, index) for index in range(env.num_envs)]
    return env.set_states(saved, latest, episodes), latest


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("name", FACTORIES)
def test_set_states_in_new_environments_continues_bit_for_bit(name: str, parallel: bool) -> None:
    config = EnvConfig(num_envs=3, parallel=parallel)
    rng = np.random.default_rng(0)
    steps: list[Step] = []
    with make_env(config, 1, FACTORIES[name]) as env:
        play(env, rng, steps, BEFORE)
        saved, at, random = env.get_states(), len(steps), rng.bit_generator.state
        play(env, rng, steps, AFTER)
    rng.bit_generator.state = random
    continued = steps[:at]
    with make_env(config, 99, FACTORIES[name]) as env:
        problems, _ = set_states(env, saved, continued)
        assert problems == ["", "", ""]
        play(env, rng, continued, AFTER)
    assert len(continued) == len(steps)
    for one, other in zip(continued[at:], steps[at:], strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in one)


class Unrepeatable(Catch):
    """Shows a number that no seed decides."""

    shown = itertools.count()

    def _draw(self) -> Any:
        image = super()._draw()
        image[0, 0] = next(self.shown) % 251
        return image


def test_set_states_of_an_environment_that_is_not_deterministic_gives_a_reason() -> None:
    config = EnvConfig(num_envs=2, parallel=False)
    steps: list[Step] = []
    rng = np.random.default_rng(0)
    with make_env(config, 1, Unrepeatable) as env:
        play(env, rng, steps, BEFORE)
        saved = env.get_states()
    with make_env(config, 2, Unrepeatable) as env:
        problems, latest = set_states(env, saved, steps)
        assert all("it is not deterministic" in problem for problem in problems) and len(problems) == 2
        assert latest["is_last"].all()
        assert env.reset(latest["is_last"])["is_first"].all()
        assert [state.seed is not None for state in env.get_states()] == [True, True]  # new episodes, new seeds


def test_set_states_when_the_replay_lost_steps_gives_a_reason_for_each_environment() -> None:
    config = EnvConfig(num_envs=2, parallel=False)
    steps: list[Step] = []
    with make_env(config, 1, partial(Catch, 10)) as env:
        play(env, np.random.default_rng(0), steps, BEFORE)
        saved = env.get_states()
    with make_env(config, 2, partial(Catch, 10)) as env:
        problems, latest = set_states(env, saved, steps, drop=1)
        assert problems == ["the replay no longer holds its whole episode"] * 2
        assert latest["is_last"].all()


def test_set_states_of_another_environment_gives_its_error_as_reason() -> None:
    """One environment restores its state; the other one no longer can."""
    config = EnvConfig(num_envs=2, parallel=False)
    steps: list[Step] = []
    with make_env(config, 1, partial(MinAtar, "asterix")) as env:
        play(env, np.random.default_rng(0), steps, BEFORE)
        saved = env.get_states()
    assert saved[1].own is not None
    saved[1].own["rest"] = saved[1].own["rest"][:-3]
    with make_env(config, 2, partial(MinAtar, "asterix")) as env:
        problems, latest = set_states(env, saved, steps)
        assert problems[0] == "" and "it raised" in problems[1]
        assert latest["is_last"].tolist() == [steps[-1]["is_last"][0], True]
        kept = env.reset(np.array([False, True]))
        assert kept["is_first"].tolist() == [False, True]
        assert np.array_equal(kept["image"][0], steps[-1]["image"][0])


def test_get_states_of_a_failing_environment_raises_and_steps_continue() -> None:
    class Speechless(MinAtar):
        def save_state(self) -> Any:
            raise RuntimeError("no memory card")

    with make_env(EnvConfig(num_envs=2), 1, partial(Speechless, "asterix")) as env:
        steps: list[Step] = []
        rng = np.random.default_rng(0)
        play(env, rng, steps, 2)
        with pytest.raises(EnvError, match="no memory card"):
            env.get_states()
        assert env.is_usable
        play(env, rng, steps, 2)
    assert not env.is_usable
    with pytest.raises(EnvError, match="cannot be stepped"):
        env.get_states()

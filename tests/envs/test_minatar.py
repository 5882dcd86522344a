"""MinAtar's games as pictures, compared with the package's own environment."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from reverie.config import EnvConfig, default_preset
from reverie.envs import env_spec, make_env
from reverie.envs.minatar import COLORS, MinAtar
from reverie.envs.registry import find_spec

GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")


def cells(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Number of the colour in the middle of each of the 10x10 cells, 0 for an empty one."""
    middle = image[5:62:6, 5:62:6]
    return (middle[:, :, None] == COLORS).all(-1).argmax(-1)


@pytest.mark.parametrize("game", GAMES)
def test_pictures_show_the_games_own_state(game: str) -> None:
    spec = find_spec(f"MinAtar/{game}-v1")
    ours, theirs = MinAtar(spec.kwargs["game"]), gymnasium.make(spec, disable_env_checker=True).unwrapped
    image, _ = ours.reset(seed=3)
    state, _ = theirs.reset(seed=3)
    rng, episodes, seen = np.random.default_rng(0), 0, set()
    for _ in range(400):
        channels = np.arange(1, state.shape[2] + 1)
        np.testing.assert_array_equal(cells(image), (state * channels).max(2))
        seen |= set(cells(image).flat)
        action = int(rng.integers(ours.action_space.n))
        image, reward, terminated, truncated, _ = ours.step(action)
        state, expected, over, _, _ = theirs.step(action)
        assert (reward, terminated, truncated) == (expected, over, False)
        if terminated:
            episodes += 1
            image, state = ours.reset()[0], theirs.reset()[0]
    assert len(seen) > 2
    assert episodes > 0 or game == "Freeway"


@pytest.mark.parametrize("game", GAMES)
def test_a_game_goes_on_from_its_saved_state(game: str) -> None:
    env, other = (MinAtar(find_spec(f"MinAtar/{game}-v1").kwargs["game"]) for _ in range(2))
    rng, seen = np.random.default_rng(0), set()
    env.reset(seed=1)
    other.reset(seed=2)
    for _ in range(12):
        for step in range(30):
            action = int(rng.integers(env.action_space.n))
            image, *outcome, _ = env.step(action)
            if step >= 15:
                same, *expected, _ = other.step(action)
                np.testing.assert_array_equal(image, same)
                assert outcome == expected
                seen.add(image.tobytes())
            if outcome[1]:
                images = [env.reset()[0], *([other.reset()[0]] if step >= 15 else [])]
                assert all((image == images[0]).all() for image in images)
            if step == 14:
                other.load_state(env.save_state())
    assert len(seen) > 50


def test_objects_fill_their_cells() -> None:
    env = MinAtar("breakout")
    image, _ = env.reset(seed=0)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert not image[:2].any() and not image[-2:].any() and not image[:, :2].any() and not image[:, -2:].any()
    np.testing.assert_array_equal(image[2:62, 2:62], COLORS[cells(image)].repeat(6, 0).repeat(6, 1))
    assert len(np.unique(COLORS, axis=0)) == len(COLORS)


def test_seeds_decide_what_happens() -> None:
    def play(seed: int) -> np.ndarray[Any, Any]:
        with make_env(EnvConfig(name="MinAtar/Asterix-v1"), seed) as env:
            env.reset(np.array([True]))
            idle = np.eye(env.spec.action.size, dtype=np.float32)[:1]
            return np.stack([env.step(idle)["image"] for _ in range(30)])

    np.testing.assert_array_equal(play(1), play(1))
    assert (play(1) != play(2)).any()


def test_versions_differ_in_their_actions() -> None:
    assert env_spec(EnvConfig(name="MinAtar/Breakout-v0")).action.size == 6
    assert env_spec(EnvConfig(name="MinAtar/Breakout-v1")).action.size == 3
    assert default_preset("MinAtar/Breakout-v1", env_spec, {}).name == "minatar"

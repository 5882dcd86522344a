"""`env.observations`: rendered pictures in place of an environment's own observations, or added to them."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.config import EnvConfig
from reverie.envs import as_factory, env_spec, make_env, make_gym_env
from reverie.errors import EnvError

ONE = np.array([True])


class Bar(gymnasium.Env[Any, Any]):
    """A bar that grows by a row at each step; counts how often it is drawn."""

    action_space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None, space: spaces.Space[Any] | None = None) -> None:
        self.render_mode, self.metadata = render_mode, {"render_modes": ["human", "rgb_array"]}
        self.observation_space = space or spaces.Box(0, 100, (1,), np.float32)
        self.drawn = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.height = 0
        return self._observation(), {}

    def step(self, action: int) -> Any:
        self.height += 1
        return self._observation(), 1.0, False, self.height == 8, {}

    def render(self) -> Any:
        self.drawn += 1
        image = np.zeros((64, 64, 3), np.uint8)
        image[: self.height] = 255
        return image

    def _observation(self) -> Any:
        vector = np.array([self.height], np.float32)
        if isinstance(self.observation_space, spaces.Dict):
            return {key: vector if key == "vector" else space.sample() for key, space in self.observation_space.items()}
        return vector if self.observation_space.shape == (1,) else self.observation_space.sample()


def settings(observations: Any, **more: Any) -> EnvConfig:
    return EnvConfig(observations=observations, parallel=False, **more)


@pytest.mark.parametrize(
    ("observations", "keys"),
    [("auto", {"vector"}), ("state", {"vector"}), ("pixels", {"image"}), ("both", {"image", "vector"})],
)
def test_env_observations_chooses_what_is_seen(observations: str, keys: set[str]) -> None:
    with make_env(settings(observations), 0, Bar) as env:
        assert set(env.spec.observations) == keys
        env.reset(ONE)
        for height in range(1, 4):
            step = env.step(np.array([[1, 0]], np.float32))
            assert "image" not in keys or (step["image"][0, :, 0, 0] == 255).sum() == height
            assert "vector" not in keys or step["vector"][0, 0] == height
    assert env_spec(settings(observations), Bar) == env.spec


def test_pixels_with_repeated_actions_draws_one_picture_per_step() -> None:
    instance = Bar("rgb_array")
    with make_env(settings("pixels", action_repeat=3), 0, as_factory(instance)[1]) as env:
        env.reset(ONE)
        before = instance.drawn
        steps = [env.step(np.array([[1, 0]], np.float32)) for _ in range(3)]
    assert [step["reward"][0] for step in steps] == [3, 3, 2] and steps[-1]["is_last"][0]
    assert instance.drawn == before + 3


@pytest.mark.parametrize("observations", ["pixels", "both"])
def test_pixels_of_an_environment_with_images_are_its_own(observations: str) -> None:
    image = spaces.Box(0, 255, (32, 32, 3), np.uint8)
    space = spaces.Dict({"camera": image, "vector": spaces.Box(0, 100, (1,), np.float32)})
    spec = env_spec(settings(observations), lambda: Bar(None, space))
    assert set(spec.observations) == {"camera", "vector"}


@pytest.mark.parametrize(
    ("side", "keys", "expected"), [(32, "vector_keys", {"image", "view"}), (8, "image_keys", {"view"})]
)
def test_both_with_keys_counts_the_images_that_they_leave(side: int, keys: str, expected: set[str]) -> None:
    space = spaces.Dict({"view": spaces.Box(0, 255, (side, side, 3), np.uint8)})
    config = settings("both", **{keys: ("view",)})
    assert set(env_spec(config, lambda render_mode=None: Bar(render_mode, space)).observations) == expected


def test_both_with_image_taken_by_a_grid_is_called_pixels() -> None:
    grid = spaces.Dict({"image": spaces.Box(0, 255, (7, 7, 3), np.uint8)})
    spec = env_spec(settings("both"), lambda render_mode=None: Bar(render_mode, grid))
    assert {key: entry.is_image for key, entry in spec.observations.items()} == {"pixels": True, "image": False}


def test_pixels_of_an_unreadable_observation_are_seen() -> None:
    spec = env_spec(settings("pixels"), lambda render_mode=None: Bar(render_mode, spaces.Text(5)))
    assert set(spec.observations) == {"image"}


def test_pixels_without_a_render_mode_are_refused() -> None:
    class Blind(gymnasium.Env[Any, Any]):
        observation_space, action_space = spaces.Box(0, 1, (2,)), spaces.Discrete(2)

    for factory in (Blind, as_factory(Blind())[1]):
        with pytest.raises(EnvError, match=r"Blind renders no pictures .render_mode is None.*=.rgb_array.") as refused:
            env_spec(settings("pixels"), factory)
        assert "--env.observations state" in str(refused.value) and len(str(refused.value)) <= 160


def test_pixels_in_a_window_are_refused() -> None:
    with pytest.raises(EnvError, match=r"^Bar draws in a window\. .*render_mode=.rgb_array.*video") as refused:
        make_gym_env(settings("pixels"), Bar, "human")
    assert len(str(refused.value)) <= 160
    assert make_gym_env(settings("state"), Bar, "human").render_mode == "human"


def test_make_gym_env_with_pixels_returns_the_picture() -> None:
    env = make_gym_env(settings("pixels", action_repeat=2, time_limit=3), Bar)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (64, 64, 3)
    ends = [env.step(0)[1:4] for _ in range(3)]
    assert ends == [(2, False, False), (2, False, False), (2, False, True)]


@pytest.mark.parametrize("parallel", [False, True])
def test_cartpole_from_pixels_shows_the_pole(parallel: bool) -> None:
    pytest.importorskip("pygame")
    config = EnvConfig(name="CartPole-v1", observations="pixels", num_envs=2, parallel=parallel)
    with make_env(config, 0) as env:
        first = env.reset(np.ones(2, bool))["image"]
        for _ in range(6):
            second = env.step(np.eye(2, dtype=np.float32))["image"]
    assert first.shape == (2, 64, 64, 3)
    assert 20 < (first[0] < 128).any(-1).sum() < 400  # cart and pole on white
    assert (first != second).any(axis=(1, 2, 3)).all()

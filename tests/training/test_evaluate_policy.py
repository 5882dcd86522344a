"""`reverie.evaluate`: whatever is given for policy and environment, whole episodes are scored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import imageio.v3 as imageio
import numpy as np
import pytest
from gymnasium import spaces

import reverie
from reverie.agents import Agent, build_agent, save_agent
from reverie.config import preset
from reverie.envs import as_factory, env_spec, make_gym_env
from reverie.errors import EnvError, ReverieError
from reverie.training.evaluate_policy import Scores
from tests.helpers.agents import TINY


class Count(gymnasium.Env[Any, Any]):
    """Pay each step's number; an episode has 2, 3 or 4 steps, drawn by the generator."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Box(-2, 2, (1,))

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.is_closed = render_mode, False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time, self.length = 0, int(self.np_random.integers(2, 5))
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.time += 1
        return np.zeros(2, np.float32), float(self.time), self.time == self.length, False, {}

    def render(self) -> Any:
        return np.full((31, 41, 3), 40 * self.time, np.uint8)

    def close(self) -> None:
        self.is_closed = True


def make_agent(env: Any, **settings: Any) -> Agent:
    name, factory = as_factory(env)
    config = preset("debug").for_env(name).override(**{**TINY, "env.parallel": False, **settings})
    return build_agent(config, env_spec(config.env, factory))


@pytest.fixture
def agent() -> Agent:
    return make_agent(Count, **{"env.time_limit": 0})


def evaluation(returns: list[float]) -> Scores:
    return Scores(np.array(returns), np.ones(len(returns), int), "Test", 0, 0, {})


# --- statistics ------------------------------------------------------------------------------------------------------


def test_evaluation_interval_is_students() -> None:
    """t of 4 degrees of freedom at 97.5 %, from a table: 2.776."""
    found = evaluation([2.0, 4.0, 4.0, 4.0, 6.0])
    assert found.mean == 4 and found.std == pytest.approx(2**0.5)
    assert found.interval == pytest.approx((4 - 2.776 * (2 / 5) ** 0.5, 4 + 2.776 * (2 / 5) ** 0.5), abs=1e-3)


def test_evaluation_of_one_episode_has_no_interval() -> None:
    assert (evaluation([3.0]).mean, evaluation([3.0]).std, evaluation([3.0]).interval) == (3, None, None)
    assert json.loads(json.dumps(evaluation([3.0]).to_json()))["episodes"] == [{"return": 3.0, "length": 1}]


def test_evaluation_interval_covers_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        low, high = evaluation(generator.normal(5, 3, size=4).tolist()).interval or (0, 0)
        covered += low <= 5 <= high
    assert abs(covered / 2000 - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5


# --- what is evaluated -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", [Count, Count(), lambda: Count()], ids=["class", "instance", "function"])
def test_evaluate_class_function_or_instance_plays_whole_episodes(agent: Agent, env: Any) -> None:
    found = reverie.evaluate(agent, env, episodes=9)
    assert len(found.returns) == 9 and set(found.lengths) <= {2, 3, 4}
    np.testing.assert_array_equal(found.returns, found.lengths * (found.lengths + 1) / 2)
    if isinstance(env, Count):
        assert not env.is_closed


def test_evaluate_environment_of_the_older_gym_stays_open(agent: Agent) -> None:
    class Old:
        """Pays 1 at each of 3 steps."""

        observation_space, action_space = Count.observation_space, Count.action_space
        is_closed = False

        def reset(self) -> Any:
            self.time = 0
            return np.zeros(2, np.float32)

        def step(self, action: Any) -> Any:
            self.time += 1
            return np.zeros(2, np.float32), 1.0, self.time == 3, {}

        def close(self) -> None:
            self.is_closed = True

    env = Old()
    found = reverie.evaluate(agent, env, episodes=2)
    assert found.returns.tolist() == [3, 3] and found.env == "Old" and not env.is_closed


def test_evaluate_run_agent_or_policy_is_the_same(agent: Agent, tmp_path: Path) -> None:
    save_agent(agent, tmp_path / "agent")
    by_path, by_agent, by_policy = (
        reverie.evaluate(policy, Count, 3) for policy in (str(tmp_path / "agent"), agent, agent.policy(seed=5))
    )
    assert by_path.to_json() == by_agent.to_json() == by_policy.to_json()
    sampled = reverie.evaluate(agent.policy(deterministic=False), Count, 3)
    assert sampled.protocol["actions"] == "sampled" and by_path.protocol["actions"] == "mode"


def test_evaluate_without_env_creates_the_runs_own() -> None:
    agent = make_agent("CartPole-v1", **{"env.time_limit": 20})
    found = reverie.evaluate(agent, episodes=2)
    assert found.env == "CartPole-v1" and found.lengths.max() <= 20 and found.protocol["time_limit"] == 20
    assert found.to_json() == reverie.evaluate(agent, "CartPole-v1", 2).to_json()


@pytest.mark.parametrize("deterministic", [True, False])
def test_evaluate_instance_gives_the_scores_of_make_env(deterministic: bool) -> None:
    """One episode is played in one environment either way: with the same seeds, samples and action repeat."""
    agent = make_agent("Pendulum-v1", **{"env.time_limit": 9, "env.action_repeat": 3})
    policy = agent.policy(deterministic)
    one = reverie.evaluate(policy, "Pendulum-v1", 1, seed=4)
    other = reverie.evaluate(policy, gymnasium.make("Pendulum-v1"), 1, seed=4)
    assert one.lengths.tolist() == other.lengths.tolist() == [9]
    np.testing.assert_allclose(one.returns, other.returns, rtol=1e-6)


def test_evaluate_agent_of_a_class_without_env_is_refused_with_the_remedy(agent: Agent) -> None:
    with pytest.raises(EnvError, match=r"Give it: --env module:Count, or env=Count in Python\.$") as refused:
        reverie.evaluate(agent)
    assert len(str(refused.value)) <= 160


# --- window and video ------------------------------------------------------------------------------------------------


def test_evaluate_video_has_a_frame_for_each_reset_and_step(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.mp4"
    found = reverie.evaluate(agent, Count, 3, video=path)
    frames = imageio.imread(path)
    assert frames.shape == (found.lengths.sum() + 3, 32, 42, 3)
    assert imageio.immeta(path)["fps"] == 7
    brightness = [40 * t for length in found.lengths for t in range(length + 1)]
    assert np.abs(frames.mean((1, 2, 3)) - brightness).max() < 6
    assert found.returns.tolist() == reverie.evaluate(agent, Count(), 3).returns.tolist()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"episodes": 0}, "number of episodes is 0"),
        ({"video": "out.gif"}, r"out\.gif is no \.mp4"),
        ({"render": True, "video": "out.mp4"}, "a window or a video"),
        ({"render": True}, "Count has no render mode human"),
        ({"env": Count(), "video": "out.mp4"}, "Count has no render mode rgb_array"),
        ({"env": gymnasium.make("CartPole-v1")}, "CartPole-v1 has"),
        ({"env": "CartPole-v1"}, "CartPole-v1 has"),
    ],
)
def test_evaluate_mistake_is_refused_in_a_sentence(agent: Agent, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ReverieError, match=words):
        reverie.evaluate(agent, **{"env": Count, **settings})


def test_evaluate_video_that_cannot_be_written_is_refused(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReverieError, match="Cannot write"):
        reverie.evaluate(agent, Count, 1, video=tmp_path / "file" / "out.mp4")


def test_evaluate_video_of_no_picture_is_refused(agent: Agent, tmp_path: Path) -> None:
    class Blind(Count):
        def render(self) -> Any:
            return np.zeros((4, 4))

    with pytest.raises(ReverieError, match=r"render\(\) returned no uint8 picture"):
        reverie.evaluate(agent, Blind, 1, video=tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


def test_evaluate_video_of_repeated_actions_has_a_frame_for_each_frame(tmp_path: Path) -> None:
    agent = make_agent(Count, **{"env.action_repeat": 2, "env.time_limit": 0})
    found = reverie.evaluate(agent, Count, 1, video=tmp_path / "out.mp4")
    played = {3.0: 2, 6.0: 3, 10.0: 4}[found.returns[0]]
    assert found.lengths[0] == -(-played // 2) and len(imageio.imread(tmp_path / "out.mp4")) == played + 1


@pytest.mark.parametrize("method", ["reset", "step", "render"])
def test_evaluate_environment_that_fails_is_named(agent: Agent, tmp_path: Path, method: str) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise ValueError("broken")

    def make(render_mode: str | None = None) -> Count:
        env = Count(render_mode)
        setattr(env, method, fail)
        return env

    with pytest.raises(EnvError, match=r"^Environment Count, episode 1, \w+( 1)?: it raised ValueError: broken"):
        reverie.evaluate(agent, make, 1, video=tmp_path / "out.mp4")


# --- make_gym_env ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"), [("ALE/Pong-v5", (210, 160, 3)), ("MinAtar/Breakout-v1", (320, 320, 3)), (None, (31, 41, 3))]
)
def test_make_gym_env_rgb_array_renders_a_picture(name: str | None, shape: tuple[int, ...]) -> None:
    config = preset("debug").for_env(name or "Count").env
    env = make_gym_env(config, None if name else Count, render_mode="rgb_array")
    env.reset(seed=0)
    frame: Any = env.render()
    assert frame.shape == shape and frame.dtype == np.uint8


def test_make_gym_env_repeats_actions_and_limits_time() -> None:
    make: Callable[[], Count] = Count
    config = preset("debug").override(**{"env.action_repeat": 2, "env.time_limit": 2}).env
    env = make_gym_env(config, make)
    env.reset(seed=0)
    action = np.zeros(1, np.float32)
    found = [env.step(action)[1:4] for _ in range(2)]
    length = env.unwrapped.length  # type: ignore[attr-defined]
    second = {2: None, 3: (3, True), 4: (7, True)}[length]
    assert found[0] == (3, length == 2, False)
    assert second is None or found[1] == (*second, True)


def test_make_gym_env_ale_py_instance_repeats_actions_itself() -> None:
    gymnasium.register_envs(ale_py)
    config = preset("debug").for_env("ALE/Pong-v5").override(**{"env.action_repeat": 4}).env
    env = make_gym_env(config, lambda: gymnasium.make("ALE/Pong-v5"))
    env.reset()
    _, _, _, _, info = env.step(0)
    assert info["episode_frame_number"] == 4

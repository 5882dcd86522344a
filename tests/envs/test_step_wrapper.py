"""`StepWrapper`: episode ends, action repeat, time limits, and faults of environments."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from reverie.envs.step_wrapper import StepWrapper
from reverie.errors import EnvError
from tests.helpers.environments import Counting, Everything, Faulty

LEFT = np.array([1, 0], np.float32)


def play(wrapper: StepWrapper, steps: int) -> list[Any]:
    """(step count seen, reward, first, last, terminal) of a reset and some steps."""
    results = [wrapper.reset()] + [wrapper.step(LEFT) for _ in range(steps)]
    keys = ("reward", "is_first", "is_last", "is_terminal")
    return [(r["vector"][0].item(), *(r[key] for key in keys)) for r in results]


def test_step_that_terminates_is_last_and_terminal() -> None:
    assert play(StepWrapper(Counting(3), 0), 3) == [
        (0, 0, True, False, False),
        (1, 1, False, False, False),
        (2, 2, False, False, False),
        (3, 3, False, True, True),
    ]


def test_step_that_truncates_is_last_and_not_terminal() -> None:
    assert play(StepWrapper(Counting(2, terminates=False), 0), 2)[-1] == (2, 2, False, True, False)


def test_action_repeat_at_an_episode_end_sums_fewer_rewards() -> None:
    assert play(StepWrapper(Counting(8), 0, action_repeat=3), 3) == [
        (0, 0, True, False, False),
        (3, 1 + 2 + 3, False, False, False),
        (6, 4 + 5 + 6, False, False, False),
        (8, 7 + 8, False, True, True),
    ]


def test_time_limit_in_agent_steps_truncates() -> None:
    wrapper = StepWrapper(Counting(), 0, action_repeat=2, time_limit=2)
    for _ in range(2):  # the count starts again with each episode
        assert play(wrapper, 2)[1:] == [(2, 3, False, False, False), (4, 7, False, True, False)]


def test_step_that_terminates_at_the_time_limit_is_terminal() -> None:
    assert play(StepWrapper(Counting(2), 0, time_limit=2), 2)[-1][-2:] == (True, True)


def test_reset_uses_the_seed_once() -> None:
    env = Counting(1)
    wrapper = StepWrapper(env, 5)
    for _ in range(3):
        wrapper.reset()
    assert env.seeds == [5, None, None]
    assert env.episodes == 3


def test_step_converts_actions_to_the_native_space() -> None:
    env = Everything("multidiscrete")
    wrapper = StepWrapper(env, 0)
    wrapper.reset()
    wrapper.step(np.array([0, 1, 1, 0, 0, 0, 0, 1, 0], np.float32))
    assert env.last_action.tolist() == [1, 0, 2]
    assert env.last_action in env.action_space


def test_step_after_the_episode_ended_raises() -> None:
    wrapper = StepWrapper(Counting(1), 0)
    with pytest.raises(EnvError, match="reset before"):
        wrapper.step(LEFT)
    play(wrapper, 1)
    with pytest.raises(EnvError, match="Counting, episode 1, step 1: the episode is over"):
        wrapper.step(LEFT)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("raises", "it raised RuntimeError: the motor is on fire ("),
        ("reward nan", "the reward is nan"),
        ("reward inf", "the reward is inf"),
        ("reward none", "the reward is None, which is no number"),
        ("observation nan", "observation 'vector' contains NaN"),
        ("shape", "observation 'image' has shape (32, 64, 3), but the space says (64, 64, 3)"),
        ("dtype", "observation 'image' has dtype float32, but the space says uint8"),
        ("missing key", "observation entry 'vector' is missing"),
        ("old api", "step() returned 4 values instead of"),
    ],
)
def test_step_with_a_fault_names_environment_episode_and_step(fault: str, text: str) -> None:
    wrapper = StepWrapper(Faulty(fault), 0, label=" (2 of 4)")
    wrapper.reset()
    for _ in range(5):
        wrapper.step(LEFT)
    wrapper.reset()
    wrapper.step(LEFT)
    wrapper.step(LEFT)
    with pytest.raises(EnvError) as caught:
        wrapper.step(LEFT)
    message = str(caught.value)
    assert message.startswith("Environment Faulty (2 of 4), episode 2, step 3: ")
    assert text in message
    assert "\n" not in message
    if fault == "raises":
        assert "environments.py:" in message
        assert isinstance(caught.value.__cause__, RuntimeError)


class Returns(Counting):
    """Return a reward and two flags as they were given."""

    def __init__(self, *values: Any) -> None:
        super().__init__()
        self.values = values

    def step(self, action: Any) -> Any:
        return super().step(action)[0], *self.values, {}


NUMBERS = [int, float, np.float32, np.int8, np.array, lambda x: np.array([x]), lambda x: np.array([x], np.float16)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("flag", [bool, int, np.bool_, np.array, lambda x: np.array([x])])
def test_step_takes_numbers_and_arrays_of_one_entry(number: Any, flag: Any) -> None:
    for terminated, truncated in [(False, False), (True, False), (False, True)]:
        wrapper = StepWrapper(Returns(number(3), flag(terminated), flag(truncated)), 0, action_repeat=2)
        wrapper.reset()
        step = wrapper.step(LEFT)
        is_last = terminated or truncated
        assert (step["reward"], step["is_last"], step["is_terminal"]) == (3 if is_last else 6, is_last, terminated)
        assert type(step["reward"]) is float and type(step["is_last"]) is type(step["is_terminal"]) is bool


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((np.zeros(2), False, False), r"the reward is array\(\[0., 0.\]\), which is no number"),
        (([1.0], False, False), r"the reward is \[1.0\], which is no number"),
        ((1.0, np.zeros(2, bool), False), r"terminated is array\(.* and truncated False, not one bool each"),
    ],
)
def test_step_with_several_rewards_or_flags_raises(values: Any, text: str) -> None:
    wrapper = StepWrapper(Returns(*values), 0)
    wrapper.reset()
    with pytest.raises(EnvError, match=text):
        wrapper.step(LEFT)


def test_reset_with_a_fault_raises() -> None:
    class OldReset(Counting):
        def reset(self, **_: Any) -> Any:
            return super().reset()[0]

    class Raises(Counting):
        def reset(self, **_: Any) -> Any:
            raise OSError("no camera")

    with pytest.raises(EnvError, match=r"OldReset, episode 1, reset: reset\(\) did not return \(observation, info\)"):
        StepWrapper(OldReset(), 0).reset()
    with pytest.raises(EnvError, match="Raises, episode 1, reset: it raised OSError: no camera"):
        StepWrapper(Raises(), 0).reset()


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_steps_of_gymnasium_environments_equal_a_plain_loop(name: str) -> None:
    plain, wrapper = gymnasium.make(name), StepWrapper(gymnasium.make(name), 3)
    rng = np.random.default_rng(0)
    seed: int | None = 3
    for _ in range(3):
        observation, _ = plain.reset(seed=seed)
        seed = None
        step = wrapper.reset()
        np.testing.assert_array_equal(step["vector"], observation)
        over = False
        while not over:
            if name == "CartPole-v1":
                action: Any = int(rng.integers(2))
                agent_action = np.eye(2, dtype=np.float32)[action]
            else:
                agent_action = rng.uniform(-1, 1, 1).astype(np.float32)
                action = 2 * agent_action
            observation, reward, terminated, truncated, _ = plain.step(action)
            step = wrapper.step(agent_action)
            np.testing.assert_allclose(step["vector"], observation, rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose(step["reward"], reward, rtol=1e-6)
            over = terminated or truncated
            assert (step["is_last"], step["is_terminal"]) == (over, terminated)
    plain.close()
    wrapper.close()

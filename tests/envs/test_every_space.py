"""Every kind of observations with discrete and continuous actions: stepped, and some of them trained.

As `test_spaces.py` and `test_dict_env.py` of stable-baselines3, with more spaces.
"""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

import reverie
from reverie.collectors.random_policy import RandomPolicy
from reverie.envs.observations import ObservationAdapter
from reverie.envs.spaces import InvalidStepError
from reverie.envs.step_wrapper import StepWrapper
from tests.helpers.agents import TINY

SHORT = {"training.steps": 60, "training.prefill": 40, "training.eval_every": 0, "training.video_every": 0}
INF = np.inf
VECTOR = spaces.Box(-1, 1, (2,))
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "image": spaces.Box(0, 255, (20, 24, 3), np.uint8),
    "image, channels first": spaces.Box(0, 255, (3, 20, 24), np.uint8),
    "image, two dimensions": spaces.Box(0, 255, (20, 24), np.uint8),
    "image of bools": spaces.Box(0, 1, (20, 24), np.bool_),
    "image of floats": spaces.Box(-1, 1, (20, 24, 3)),
    "image of int64": spaces.Box(0, 255, (20, 24, 3), np.int64),
    "depth": spaces.Box(0, 65535, (20, 24, 1), np.uint16),
    "stack of images": spaces.Box(0, 255, (4, 20, 24, 3), np.uint8),
    "grid": spaces.Box(0, 255, (7, 7, 3), np.uint8),
    "vector": spaces.Box(-INF, INF, (4,)),
    "vector of float16": spaces.Box(-1, 1, (4,), np.float16),
    "vector of five dimensions": spaces.Box(-1, 1, (1, 2, 1, 2, 2)),
    "scalar": spaces.Box(-1, 1, ()),
    "bytes": spaces.Box(0, 255, (5,), np.uint8),
    "integers": spaces.Box(-(2**40), 2**40, (3,), np.int64),
    "Discrete": spaces.Discrete(5, start=-2),
    "MultiDiscrete": spaces.MultiDiscrete([3, 4], start=[1, -1]),
    "MultiDiscrete, two dimensions": spaces.MultiDiscrete([[3, 4], [2, 2]]),
    "MultiBinary": spaces.MultiBinary(4),
    "MultiBinary, two dimensions": spaces.MultiBinary((2, 3)),
    "Tuple": spaces.Tuple((spaces.Discrete(32), spaces.Discrete(11), spaces.Discrete(2))),
    "Dict": spaces.Dict(
        image=spaces.Box(0, 255, (20, 24, 3), np.uint8),
        mission=spaces.Text(8),
        inner=spaces.Tuple(
            (spaces.Box(-1, 1, (2,)), spaces.Sequence(spaces.Discrete(2)), spaces.Dict(a=spaces.Discrete(3)))
        ),
        graph=spaces.Graph(VECTOR, None),
        either=spaces.OneOf((spaces.Discrete(2), VECTOR)),
        nothing=spaces.Box(0, 1, (0, 2)),
    ),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "Discrete": spaces.Discrete(3, start=-1),
    "MultiDiscrete": spaces.MultiDiscrete([[2, 3], [2, 2]], start=[[0, 1], [0, 0]]),
    "MultiBinary": spaces.MultiBinary((2, 2)),
    "integers": spaces.Box(-2, 2, (3,), np.int8),
    "Dict of Discrete": spaces.Dict(
        a=spaces.Discrete(2), b=spaces.Tuple((spaces.MultiBinary(2), spaces.Box(0, 3, (), np.int64)))
    ),
    "Box": spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    "Box of float64": spaces.Box(-3, 5, (2, 2), np.float64),
    "Box of a scalar": spaces.Box(-1, 1, ()),
    "Box of bytes": spaces.Box(0, 255, (2,), np.uint8),
    "Box without bounds": spaces.Box(np.array([-INF, 1, -INF]), np.array([INF, INF, 1]), dtype=np.float64),
    "Tuple of Box": spaces.Tuple((VECTOR, spaces.Dict(gear=spaces.Box(-1, 5, (1,), np.int64)))),
}


class Sampled(gymnasium.Env[Any, Any]):
    """Observe samples of a space; take actions of another one, and no others. Episodes have 10 steps."""

    def __init__(self, observation: str, action: str) -> None:
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self._steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self._steps += 1
        return self.observation_space.sample(), 1.0, False, self._steps == 10, {}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_step_wrapper_steps_every_space(observation: str, action: str) -> None:
    wrapper = StepWrapper(Sampled(observation, action), 0)
    policy = RandomPolicy(wrapper.spec.action, np.random.default_rng(0))
    steps = [wrapper.reset()]
    steps += [wrapper.step(policy({"is_first": np.ones(1)})[0]) for _ in range(10)]
    for step in steps:
        for key, entry in wrapper.spec.observations.items():
            assert (step[key].shape, step[key].dtype) == (entry.shape, entry.dtype)
            assert entry.is_image == (len(entry.shape) == 3)
            assert len(entry.shape) == 1 or entry.shape[:2] == (64, 64)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observation_adapter_splits_what_gymnasium_batches(name: str) -> None:
    space = OBSERVATIONS[name]
    adapter, samples = ObservationAdapter(space, "Test"), [space.sample() for _ in range(3)]
    batch = concatenate(space, samples, create_empty_array(space, 3))
    for values, sample in zip(adapter.split_batch(batch, 3), samples, strict=True):
        expected = adapter(sample)
        for key, found in adapter.convert(values).items():
            np.testing.assert_array_equal(found, expected[key])
    with pytest.raises(InvalidStepError, match="is not of 4 environments"):
        adapter.split_batch(batch, 4)


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        ("Tuple", "Dict of Discrete"),
        ("Dict", "Tuple of Box"),
        ("stack of images", "Box without bounds"),
        ("grid", "integers"),
        ("MultiDiscrete, two dimensions", "Box of bytes"),
    ],
)
def test_train_every_space_learns_and_acts(tmp_path: Path, observation: str, action: str) -> None:
    def make() -> Sampled:
        return Sampled(observation, action)

    settings = {
        **TINY,
        "training.steps": 60,
        "training.prefill": 40,
        "training.train_every": 5,
        "replay.sampling": "steps",
    }
    agent = reverie.train(make, "debug", logdir=tmp_path / "run", loggers=(), quiet=True, **settings)
    assert agent.updates >= 4
    policy, env = reverie.load(tmp_path / "run").policy(), make()
    obs, _ = env.reset(seed=0)
    for _ in range(3):  # the environment itself refuses actions that are not in its space
        obs, *_ = env.step(policy(obs))


def test_train_prints_notes_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> Sampled:
        return Sampled("Dict", "Box without bounds")

    settings = {**TINY, **SHORT, "env.num_envs": 2, "env.parallel": False}
    reverie.train(make, "debug", logdir=tmp_path / "run", loggers=(), **settings)
    printed = capsys.readouterr().out
    for words in [
        "'mission' is left out",
        "'graph' is left out",
        "'nothing' is left out, since it is",
        "are squashed by",
    ]:
        assert printed.count(words) == 1

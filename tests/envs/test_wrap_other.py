"""Environments of dm_env and of the older Gym, given from Python, by stand-ins that have no more than they need."""

from collections import namedtuple
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.config import EnvConfig
from reverie.envs import as_factory, env_spec, make_env, make_gym_env
from reverie.errors import EnvError
from reverie.specs import ActionSpec

ONE = np.array([True])


class TimeStep(NamedTuple):
    observation: Any
    reward: float | None
    discount: float | None
    is_last: bool = False

    def last(self) -> bool:
        return self.is_last


def array_spec(*shape: int, dtype: str = "float64", **bounds: Any) -> SimpleNamespace:
    return SimpleNamespace(shape=shape, dtype=np.dtype(dtype), **bounds)


class Rolling:
    """An environment of dm_env: a ball rolls as far as it is pushed. It ends at 3 with `discount`."""

    def __init__(self, discount: float = 0.0) -> None:
        self.discount = discount
        self.task = SimpleNamespace(random=np.random.RandomState(0))

    def observation_spec(self) -> dict[str, Any]:
        return {"place": array_spec(), "nested": {"seed": array_spec(2), "count": array_spec(dtype="int32")}}

    def action_spec(self) -> Any:
        return array_spec(1, dtype="float32", minimum=np.float32(-2), maximum=np.float32(2))

    def reset(self) -> TimeStep:
        self.place, self.count, self.noise = 0.0, 0, self.task.random.uniform(size=2)
        return TimeStep(self._observation(), None, None)

    def step(self, action: Any) -> TimeStep:
        self.place += float(action[0])
        self.count += 1
        is_last = self.place >= 3
        return TimeStep(self._observation(), None if is_last else 1.0, self.discount if is_last else 1.0, is_last)

    def close(self) -> None:
        pass

    def _observation(self) -> dict[str, Any]:
        return {"place": self.place, "nested": {"seed": self.noise, "count": np.int32(self.count)}}


OldBox, OldDiscrete = namedtuple("OldBox", "low high shape dtype"), namedtuple("OldDiscrete", "n")


class OldCounter:
    """An environment of the older Gym, with spaces of its own: counts to 3, or to a time limit."""

    observation_space: ClassVar[Any] = OldBox(0, 255, (4,), np.float32)
    action_space: ClassVar[Any] = OldDiscrete(2)
    info: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)

    def reset(self) -> Any:
        self.count = 0
        return np.zeros(4, np.float32)

    def step(self, action: int) -> Any:
        self.count += 1
        return np.full(4, self.count, np.float32), 0.5, self.count == 3, self.info


class OldLimited(OldCounter):
    info: ClassVar[dict[str, Any]] = {"TimeLimit.truncated": True}


class Gym26(OldCounter):
    """Gym 0.26: five values, and an info at the reset."""

    def reset(self) -> Any:
        return super().reset(), {}

    def step(self, action: int) -> Any:
        observation, reward, done, info = super().step(action)
        return observation, reward, False, done, info


def play(env: Any, action: list[float]) -> list[dict[str, Any]]:
    config = EnvConfig(parallel=False)
    with make_env(config, 0, as_factory(env)[1]) as made:
        steps = [made.reset(ONE)]
        while not steps[-1]["is_last"][0]:
            steps.append(made.step(np.array([action], np.float32)))
    return [{key: value[0] for key, value in step.items()} for step in steps]


@pytest.mark.parametrize("form", ["instance", "class", "function"])
def test_dm_env_environment_is_stepped(form: str) -> None:
    env: Any = {"instance": Rolling(), "class": Rolling, "function": lambda: Rolling()}[form]
    first, *others = play(env, [0.5])
    assert [step["place"].item() for step in others] == [1, 2, 3]
    assert first["nested/seed"].shape == (2,) and others[-1]["nested/count"] == 3
    assert [step["reward"] for step in others] == [1, 1, 0]


def test_dm_env_rewards_of_two_objectives_are_refused() -> None:
    class Two(Rolling):
        def step(self, action: Any) -> TimeStep:
            return super().step(action)._replace(reward=np.array([1.0, 2.0]))

    with pytest.raises(EnvError, match=r"step 1: the reward is array.*which is no number"):
        play(Two, [0.5])


def test_dm_env_environment_without_close_is_stepped() -> None:
    whole = Rolling()
    names = ("observation_spec", "action_spec", "reset", "step")
    assert play(SimpleNamespace(**{name: getattr(whole, name) for name in names}), [0.5])[-1]["is_last"]


@pytest.mark.parametrize(("discount", "is_terminal"), [(0.0, True), (1.0, False)])
def test_dm_env_last_step_with_discount_zero_is_terminal(discount: float, is_terminal: bool) -> None:
    last = play(Rolling(discount), [1])[-1]
    assert (last["is_last"], last["is_terminal"]) == (True, is_terminal)


def test_dm_env_environment_with_a_task_is_seeded() -> None:
    first, second = (play(Rolling(), [1])[0]["nested/seed"] for _ in range(2))
    assert (first == second).all()
    _, factory = as_factory(Rolling)
    with make_env(EnvConfig(parallel=False), 1, factory) as env:
        assert (env.reset(ONE)["nested/seed"][0] != first).all()


def test_dm_env_specs_become_spaces() -> None:
    class Other(Rolling):
        def observation_spec(self) -> Any:
            pixels, name = array_spec(32, 32, 3, dtype="uint8"), SimpleNamespace(string_type=str, shape=())
            kind = array_spec(dtype="int64", num_values=4)
            return {"pixels": pixels, "pair": [array_spec(2), array_spec(3, dtype="bool")], "name": name, "kind": kind}

        def action_spec(self) -> Any:  # as dm_control declares motors without limits
            return array_spec(2, minimum=np.full(2, -1e10), maximum=np.full(2, 1e10))

    name, factory = as_factory(Other())
    spec = env_spec(EnvConfig(), factory)
    assert name == "Other"
    assert {key: entry.shape for key, entry in spec.observations.items()} == {
        "pixels": (64, 64, 3),
        "pair/0": (2,),
        "pair/1": (3,),
        "kind": (4,),
    }
    assert spec.action == ActionSpec("continuous", (2,))
    assert any("no bounds" in note for note in spec.notes)


@pytest.mark.parametrize("form", ["instance", "class", "function"])
def test_old_gym_environment_is_stepped(form: str) -> None:
    env: Any = {"instance": OldCounter(), "class": OldCounter, "function": lambda: OldCounter()}[form]
    _, *others = play(env, [0, 1])
    assert [step["vector"][0] for step in others] == [1, 2, 3]
    assert [step["reward"] for step in others] == [0.5] * 3
    assert others[-1]["is_terminal"]


@pytest.mark.parametrize("kind", [OldLimited, Gym26])
def test_old_gym_time_limit_is_no_termination(kind: type) -> None:
    last = play(kind, [1, 0])[-1]
    assert last["is_last"] and not last["is_terminal"]


def test_old_gym_environment_is_seeded_once() -> None:
    env = OldCounter()
    with make_env(EnvConfig(parallel=False), 0, as_factory(env)[1]) as made:
        made.reset(ONE)
        made.reset(ONE)
    assert len(env.seeds) == 1


def test_old_gym_environment_with_render_modes_is_rendered() -> None:
    class Drawn(OldCounter):
        metadata: ClassVar[dict[str, Any]] = {"render.modes": ["human", "rgb_array"]}

        def render(self, mode: str = "human") -> Any:
            return np.full((64, 64, 3), 7, np.uint8) if mode == "rgb_array" else None

    config = EnvConfig(observations="pixels", parallel=False)
    with make_env(config, 0, Drawn) as env:
        assert (env.reset(ONE)["image"] == 7).all()
    assert make_gym_env(EnvConfig(), Drawn, "rgb_array").metadata["render_modes"] == ["rgb_array"]


class SeededGym26:
    """Gym 0.26 with spaces and seeds of its own."""

    observation_space: ClassVar[Any] = SimpleNamespace(spaces=[OldBox(0, 1, (2,), np.float32), OldDiscrete(3)])
    action_space: ClassVar[Any] = OldDiscrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return (np.random.default_rng(seed).random(2, np.float32), 1), {}

    def step(self, action: int) -> Any:
        return (np.zeros(2, np.float32), 1), 1.0, True, False, {}


def test_gym_26_environment_with_a_tuple_is_seeded_by_reset() -> None:
    first, second = (play(SeededGym26, [1, 0])[0] for _ in range(2))
    assert (first["0"] == second["0"]).all() and first["1"].tolist() == [0, 1, 0]


def test_old_gym_spaces_become_gymnasium_spaces() -> None:
    class Old(OldCounter):
        observation_space = SimpleNamespace(
            spaces={
                "many": SimpleNamespace(nvec=np.array([2, 3]), shape=(2,)),
                "bits": SimpleNamespace(n=3, shape=(3,)),
                "both": SimpleNamespace(spaces=(OldDiscrete(5), OldBox(-1, 1, (2,), "float32"))),
                "new": spaces.Discrete(2),
            }
        )

    spec = env_spec(EnvConfig(), as_factory(Old())[1])
    assert {key: entry.size for key, entry in spec.observations.items()} == {
        "many": 5,
        "bits": 3,
        "both/0": 5,
        "both/1": 2,
        "new": 2,
    }


def test_old_gym_unknown_space_is_refused() -> None:
    class Old(OldCounter):
        observation_space = "everything"

    with pytest.raises(EnvError, match="The space everything is none that reverie knows"):
        as_factory(Old())


def test_old_gym_step_of_three_values_is_refused() -> None:
    class Old(OldCounter):
        def step(self, action: int) -> Any:
            return super().step(action)[:3]

    with pytest.raises(EnvError, match="Environment Old, episode 1, step 1: step\\(\\) returned 3 values"):
        play(Old, [1, 0])


def test_gymnasium_environment_with_four_values_is_still_refused() -> None:
    class Wrong(gymnasium.Env[Any, Any]):
        observation_space, action_space = spaces.Box(0, 1, (2,)), spaces.Discrete(2)

        def reset(self, **_: Any) -> Any:
            return np.zeros(2, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.zeros(2, np.float32), 0.0, True, {}

    with pytest.raises(EnvError, match="step\\(\\) returned 4 values"):
        play(Wrong, [1, 0])

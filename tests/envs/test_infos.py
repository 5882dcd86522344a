"""`VectorEnv.infos`: the info of the step that ended an episode, the same in worker processes as without them."""

import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

from reverie.config import EnvConfig
from reverie.envs import make_env
from reverie.envs.workers import IS_SUPPORTED
from reverie.errors import EnvError
from tests.helpers.environments import Counting

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="worker processes need POSIX")
LEFT = np.tile(np.array([1, 0], np.float32), (3, 1))
ALL = np.ones(3, bool)


class Informative(Counting):
    """Reports its step in several forms; every second episode is one step longer."""

    def __init__(self, length: int = 3, extra: Any = None) -> None:
        super().__init__(length)
        self.extra = extra

    def step(self, action: Any) -> Any:
        """Count, and describe the step."""
        *result, _ = super().step(action)
        info = {
            "steps": self.steps,
            "success": np.bool_(self.steps == self.length),
            "achievements": {"wood": np.int64(self.steps), "inner": {"stone": 0.5}},
            "position": np.arange(self.steps),
            "log": "a text",
            **({} if self.extra is None else self.extra(self.steps)),
        }
        return *result, info


def expected(steps: int, success: bool = True) -> dict[str, Any]:
    """Return an info of `Informative`, with lists for arrays."""
    achievements = {"wood": steps, "inner": {"stone": 0.5}}
    position = list(range(steps))
    return {
        "steps": steps,
        "success": success,
        "achievements": achievements,
        "position": position,
        "log": "a text",
    }


def as_lists(info: dict[str, Any]) -> dict[str, Any]:
    """Return an info with lists for arrays."""
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in info.items()}


@pytest.mark.parametrize("parallel", [False, True])
def test_infos_when_an_episode_ends_hold_its_last_info(parallel: bool) -> None:
    with make_env(EnvConfig(num_envs=3, parallel=parallel), 0, Informative) as env:
        env.reset(ALL)
        env.step(LEFT)
        env.reset(np.array([False, True, False]))  # one step behind the others from here on
        assert env.infos == [{}, {}, {}]
        env.step(LEFT)
        assert env.infos == [{}, {}, {}]
        env.step(LEFT)
        ended = env.infos
        assert [as_lists(info) for info in ended] == [expected(3), {}, expected(3)]
        env.reset(np.array([True, False, True]))
        assert env.infos == [{}, {}, {}]
        env.step(LEFT)
        assert [as_lists(info) for info in env.infos] == [{}, expected(3), {}]
        assert as_lists(ended[0]) == expected(3)  # a list that was returned does not change


@pytest.mark.parametrize("parallel", [False, True])
def test_infos_at_the_time_limit_hold_the_last_repeated_step(parallel: bool) -> None:
    config = EnvConfig(num_envs=3, parallel=parallel, time_limit=2, action_repeat=2)
    with make_env(config, 0, partial(Informative, 10)) as env:
        env.reset(ALL)
        env.step(LEFT)
        assert env.infos == [{}, {}, {}]
        assert env.step(LEFT)["is_last"].all()
        assert [as_lists(info) for info in env.infos] == [expected(4, success=False)] * 3


def add_unpicklable(steps: int) -> dict[str, Any]:
    """Return entries of which two cannot be sent to another process."""
    return {"lock": threading.Lock(), "motors": {"left": 1.5, "handle": threading.Lock()}}


def test_infos_from_a_process_drop_unpicklable_entries_with_a_warning() -> None:
    with make_env(EnvConfig(num_envs=3), 0, partial(Informative, 3, add_unpicklable)) as env:
        env.reset(ALL)
        env.step(LEFT)
        env.step(LEFT)
        with pytest.warns(UserWarning, match=r"cannot be pickled \(handle, lock\)"):
            env.step(LEFT)
        assert [as_lists(info) for info in env.infos] == [expected(3) | {"motors": {"left": 1.5}}] * 3
        env.reset(ALL)
        env.step(LEFT)


def test_infos_when_an_environment_fails_are_empty() -> None:
    class Breaks(Informative):
        def step(self, action: Any) -> Any:
            if self.steps == 2:
                raise RuntimeError("the motor is on fire")
            return super().step(action)

    with make_env(EnvConfig(num_envs=3, parallel=False), 0, Breaks, restart=True) as env:
        env.reset(ALL)
        env.step(LEFT)
        env.step(LEFT)
        assert env.step(LEFT)["is_last"].all() and env.failed.all()
        assert env.infos == [{}, {}, {}]


def test_steps_with_an_info_that_is_no_dictionary_are_refused() -> None:
    class Broken(Counting):
        def step(self, action: Any) -> Any:
            return *super().step(action)[:4], None

    with make_env(EnvConfig(), 0, Broken) as env:
        env.reset(np.array([True]))
        with pytest.raises(EnvError, match=r"step\(\) returned a NoneType as info instead of"):
            env.step(LEFT[:1])

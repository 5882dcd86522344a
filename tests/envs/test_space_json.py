"""Gymnasium spaces as JSON: there and back, and contents that no space has."""

import contextlib
import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.envs.space_json import space_from_json, space_to_json, spec_from_json, spec_to_json
from reverie.envs.step_wrapper import StepWrapper
from reverie.specs import ActionSpec, EnvSpec
from tests.helpers.agents import CONTINUOUS, DICT, DISCRETE, MULTI_DISCRETE
from tests.helpers.environments import Everything
from tests.helpers.untrusted_files import little_memory, spoiled

SPACES = [
    spaces.Box(-1, 1, (3,)),
    spaces.Box(0, 255, (64, 80, 3), np.uint8),
    spaces.Box(np.array([-1, -np.inf, 0.1]), np.array([1, 2, np.inf]), dtype=np.float64),
    spaces.Box(-np.inf, np.inf, (1,)),
    spaces.Box(2.5, 3.5, ()),
    spaces.Box(np.array([[-(2**62), 3]]), np.array([[2**62 + 1, 4]]), dtype=np.int64),
    spaces.Box(0, 1, (4, 4), np.bool_),
    spaces.Discrete(5, start=-2),
    spaces.MultiDiscrete([2, 3], start=[0, 4]),
    spaces.MultiDiscrete([[2, 3], [4, 5]], dtype=np.int32),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 3)),
    spaces.Dict([("z", spaces.Discrete(2)), ("a", spaces.Dict({"deep": spaces.MultiBinary(2)}))]),
    spaces.Dict([(1, spaces.Discrete(2)), (0, spaces.Discrete(3))]),  # type: ignore[list-item]
    spaces.Tuple((spaces.Discrete(2), spaces.Dict({"deep": spaces.Tuple((spaces.MultiBinary(2),))}))),
    Everything().observation_space,
    Everything().action_space,
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_space_from_json_of_space_to_json_is_the_space(space: spaces.Space[Any]) -> None:
    text = json.dumps(space_to_json(space), allow_nan=False, sort_keys=True)
    found = space_from_json(json.loads(text))
    assert found == space and found.dtype == space.dtype and len(text) < 2000
    if isinstance(space, spaces.Dict) and isinstance(found, spaces.Dict):
        assert list(found.spaces) == list(space.spaces)


def test_space_to_json_what_the_agent_cannot_read_is_an_empty_dict() -> None:
    space = spaces.Dict({"words": spaces.Text(3), "pair": spaces.Tuple((spaces.Box(0, 1, (0,)), spaces.Discrete(2)))})
    found = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert found == spaces.Dict({"words": spaces.Dict(), "pair": spaces.Tuple((spaces.Dict(), spaces.Discrete(2)))})


def nested(depth: int) -> dict[str, Any]:
    return {"kind": "Dict", "spaces": [["a", nested(depth - 1)]]} if depth else {"kind": "Discrete", "n": 2, "start": 0}


BOX = space_to_json(spaces.Box(-1, 1, (3,)))


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "Box",
        {},
        {"kind": "Text"},
        {"kind": ["Box"]},
        nested(9),
        {"kind": "Dict", "spaces": {"a": 1}},
        {"kind": "Tuple", "spaces": 3},
        {"kind": "Tuple", "spaces": [{"kind": "Text"}]},
        {"kind": "Discrete", "n": 0, "start": 0},
        {"kind": "Discrete", "n": True, "start": 0},
        {"kind": "Discrete", "n": 10**30, "start": 0},
        {"kind": "MultiDiscrete", "nvec": [2, -1], "start": [0, 0], "dtype": "int64"},
        {"kind": "MultiDiscrete", "nvec": [2], "start": [0], "dtype": "object"},
        {"kind": "MultiBinary", "shape": [1 << 40]},
        BOX | {"shape": [1 << 20, 1 << 20]},
        BOX | {"shape": [-1]},
        BOX | {"shape": [0]},
        BOX | {"shape": 3},
        BOX | {"dtype": "object"},
        BOX | {"dtype": "nothing"},
        BOX | {"low": [1, 2]},
        BOX | {"low": "low"},
        BOX | {"low": None},
        BOX | {"low": 2},
        BOX | {"high": [[1], [2, 3]]},
    ],
    ids=lambda data: str(data)[:60],
)
def test_space_from_json_invalid_contents_are_refused(data: Any) -> None:
    with pytest.raises((ValueError, TypeError, LookupError, OverflowError)):
        space_from_json(data)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Taxi-v4"])
def test_spec_from_json_is_that_of_the_environment(name: str) -> None:
    env = gymnasium.make(name)
    spec = StepWrapper(env, 0).spec
    data = json.loads(json.dumps(spec_to_json(spec)))
    assert spec_from_json(data) == spec
    assert space_from_json(data["observation"]) == env.observation_space
    assert space_from_json(data["action"]) == env.action_space


@pytest.mark.parametrize("action", [DISCRETE, MULTI_DISCRETE, CONTINUOUS])
def test_spec_from_json_of_a_spec_without_spaces_is_the_same(action: ActionSpec) -> None:
    spec = EnvSpec(DICT, action)
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


def test_spec_from_json_of_an_unsupported_space_is_refused() -> None:
    data = {"observation": space_to_json(spaces.Dict({})), "action": space_to_json(spaces.MultiBinary(2))}
    with pytest.raises(ValueError, match="space Dict is not supported"):
        spec_from_json(data)


@settings(max_examples=300, deadline=None, database=None)
@given(data=st.data())
def test_space_from_json_spoiled_contents_are_refused_or_a_space(data: st.DataObject) -> None:
    valid = space_to_json(data.draw(st.sampled_from(SPACES)))
    made_up = data.draw(spoiled(valid))
    with little_memory(), contextlib.suppress(ValueError, TypeError, LookupError, OverflowError):
        assert isinstance(space_from_json(made_up), spaces.Space)

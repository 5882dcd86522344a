"""Actions of every space, checked against values written out by hand; what the agent cannot take is refused."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from hypothesis import given
from hypothesis import strategies as st

from reverie.envs.actions import ActionAdapter, check_actions
from reverie.errors import EnvError
from reverie.specs import ActionSpec


def one_hot(*indices_and_sizes: tuple[int, int]) -> Any:
    return np.concatenate([np.eye(size, dtype=np.float32)[index] for index, size in indices_and_sizes])


def test_discrete_actions() -> None:
    act = ActionAdapter(spaces.Discrete(3, start=-1), "Test")
    assert act.spec == ActionSpec("discrete", (3,))
    assert [act(one_hot((i, 3))) for i in range(3)] == [-1, 0, 1]
    act = ActionAdapter(spaces.MultiDiscrete([2, 3, 4]), "Test")
    assert act.spec == ActionSpec("discrete", (2, 3, 4))
    action = act(one_hot((1, 2), (0, 3), (3, 4)))
    assert action.tolist() == [1, 0, 3]
    assert action in spaces.MultiDiscrete([2, 3, 4])


def test_box_actions_reach_their_bounds_exactly() -> None:
    space = spaces.Box(np.array([[-2, 0.1]], np.float32), np.array([[2, 10]], np.float32))
    act = ActionAdapter(space, "Test")
    assert act.spec == ActionSpec("continuous", (2,))
    np.testing.assert_array_equal(act(np.array([-1, -1], np.float32)), space.low)
    np.testing.assert_array_equal(act(np.array([1, 1], np.float32)), space.high)
    np.testing.assert_allclose(act(np.array([0, 0.5], np.float32)), [[0, 0.1 + 0.75 * 9.9]], rtol=1e-6)
    np.testing.assert_array_equal(act(np.array([1.0001, 5], np.float32)), space.high)


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=2), st.floats(-50, 50), st.floats(0, 1000))
def test_box_actions_stay_in_their_space(action: list[float], low: float, width: float) -> None:
    for dtype in (np.float32, np.float64):
        space = spaces.Box(dtype(low), dtype(low + width), (2,), dtype)
        assert ActionAdapter(space, "Test")(np.array(action, np.float32)) in space


DISCRETE, BOX = spaces.Discrete(3, start=-1), spaces.Box(-2, 2, (2,))


def test_multi_discrete_and_multi_binary_of_any_shape_are_categoricals() -> None:
    space = spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [0, 5]])
    act = ActionAdapter(space, "Test")
    assert act.spec == ActionSpec("discrete", (2, 3, 4, 2))
    action = act(one_hot((1, 2), (2, 3), (0, 4), (1, 2)))
    np.testing.assert_array_equal(action, [[1, 3], [0, 6]])
    assert action in space
    act = ActionAdapter(spaces.MultiBinary((2, 2)), "Test")
    assert act.spec == ActionSpec("discrete", (2, 2, 2, 2))
    action = act(one_hot((1, 2), (0, 2), (0, 2), (1, 2)))
    np.testing.assert_array_equal(action, [[1, 0], [0, 1]])
    assert action in spaces.MultiBinary((2, 2))


def test_nested_discrete_actions_are_categoricals_in_the_order_of_the_space() -> None:
    inner = spaces.Tuple((spaces.MultiBinary(1), spaces.MultiDiscrete([2, 3])))
    space = spaces.Dict([("z", DISCRETE), ("a", inner)])
    act = ActionAdapter(space, "Test")
    assert act.spec == ActionSpec("discrete", (3, 2, 2, 3)) and act.notes == []
    action = act(one_hot((2, 3), (1, 2), (0, 2), (2, 3)))
    assert action in space
    assert action["z"] == 1 and action["a"][0].tolist() == [1] and action["a"][1].tolist() == [0, 2]


def test_nested_boxes_are_one_vector() -> None:
    space = spaces.Tuple((spaces.Box(-2, 2, (2,)), spaces.Dict({"gas": spaces.Box(0, 1, (), np.float64)})))
    act = ActionAdapter(space, "Test")
    assert act.spec == ActionSpec("continuous", (3,))
    action = act(np.array([-1, 1, 0], np.float32))
    np.testing.assert_array_equal(action[0], [-2, 2])
    assert action[1]["gas"] == 0.5 and action in space


def test_integer_boxes_of_few_values_are_categoricals() -> None:
    space = spaces.Box(np.array([-3, 0]), np.array([28, 1]), dtype=np.int64)
    act = ActionAdapter(space, "Test")
    assert act.spec == ActionSpec("discrete", (32, 2)) and act.notes == []
    action = act(one_hot((31, 32), (0, 2)))
    assert action.tolist() == [28, 0] and action in space
    flags = ActionAdapter(spaces.Box(0, 1, (2,), np.bool_), "Test")(one_hot((1, 2), (0, 2)))
    assert flags.tolist() == [True, False] and flags in spaces.Box(0, 1, (2,), np.bool_)


def test_integer_boxes_of_many_values_are_rounded() -> None:
    for space in (spaces.Box(0, 255, (2,), np.uint8), spaces.Box(0, 32, (2,), np.int64)):
        act = ActionAdapter(space, "Test")
        assert act.spec == ActionSpec("continuous", (2,))
        assert act.notes == [f"The actions {space} are continuous for the agent, and rounded."]
        half = round(float(space.high[0]) / 2)
        assert act(np.array([1, 0], np.float32)).tolist() == [space.high[0], half]
        assert act(np.array([1, 0], np.float32)) in space


def test_integer_and_float_boxes_together_are_continuous() -> None:
    space = spaces.Dict(
        {"gear": spaces.Box(-1, 5, (1,), np.int64), "horn": spaces.Box(0, 1, (1,), np.bool_), "steer": BOX}
    )
    act = ActionAdapter(space, "Test")
    assert act.spec == ActionSpec("continuous", (4,))
    action = act(np.array([1, 1, 0.5, -1], np.float32))
    assert action in space and action["gear"] == 5 and action["horn"] and action["steer"].tolist() == [1, -2]


def test_boxes_without_bounds_are_squashed_with_a_note() -> None:
    inf = np.inf
    space = spaces.Box(np.array([-inf, 1, -inf, -3]), np.array([inf, inf, -1, 3]), dtype=np.float64)
    act = ActionAdapter(space, "Test")
    reach = np.arctanh(0.999)  # 3.8
    for value, expected in [
        (-1, [-reach, 1, -1 - reach, -3]),
        (0, [0, 1 + np.arctanh(0.4995), -1 - np.arctanh(0.4995), 0]),
        (1, [reach, 1 + reach, -1, 3]),
    ]:
        action = act(np.full(4, value, np.float32))
        np.testing.assert_allclose(action, expected, rtol=1e-6)
        assert action in space
    (note,) = act.notes
    assert "has no bounds: actions are squashed by atanh, up to 3.8" in note
    assert len(note) <= 160
    largest = np.finfo(np.float32).max
    assert ActionAdapter(spaces.Box(-largest, largest, (2,)), "Test").notes
    assert ActionAdapter(spaces.Box(-(2**62), 2**62, (2,), np.int64), "Test")(np.ones(2, np.float32)).tolist() == [4, 4]


@pytest.mark.parametrize(
    "space", [BOX, DISCRETE, spaces.Dict({"a": DISCRETE, "b": spaces.Tuple((DISCRETE,))})], ids=str
)
def test_joined_actions_are_those_of_a_vector_environment(space: spaces.Space[Any]) -> None:
    act = ActionAdapter(space, "Test")
    size = act.spec.size // len(act.spec.sizes)
    rows = [np.tile(np.eye(size, dtype=np.float32)[i % size], len(act.spec.sizes)) for i in range(4)]
    batch = act.join([act(row) for row in rows])
    assert batch in batch_space(space, 4)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Sequence(DISCRETE),
        spaces.Graph(BOX, None),
        spaces.OneOf((DISCRETE, BOX)),
        spaces.Dict({"a": DISCRETE, "words": spaces.Text(3)}),
        spaces.Box(-1, 1, (0,)),
        spaces.Dict({}),
        spaces.Tuple(()),
    ],
    ids=str,
)
def test_unsupported_actions_are_named(space: spaces.Space[Any]) -> None:
    with pytest.raises(EnvError, match=r"MyEnv-v3: the action space .* is not supported; reverie") as caught:
        ActionAdapter(space, "MyEnv-v3")
    assert len(str(caught.value)) <= 160


@pytest.mark.parametrize("box", [BOX, spaces.Box(0, 255, (1,), np.uint8)], ids=str)
def test_mixed_actions_are_refused_in_a_sentence(box: spaces.Space[Any]) -> None:
    with pytest.raises(
        EnvError, match=r"MyEnv-v3: the action space .* has discrete and continuous parts. The actor"
    ) as refused:
        ActionAdapter(spaces.Dict({"a": DISCRETE, "b": box}), "MyEnv-v3")
    assert len(str(refused.value)) <= 160


def test_actions_are_checked() -> None:
    spec = ActionSpec("discrete", (2, 3))
    good = one_hot((1, 2), (0, 3))[None]
    assert check_actions(good + 1e-6, spec, 1).dtype == np.float32
    for bad, message in [
        (np.zeros((1, 5)), "one-hot"),
        (good * 0.5, "one-hot"),
        (np.array([[0, 1, 0.5, 0.5, 0]]), "one-hot"),
        (np.array([[0, 1, 2, -1, 0]]), "one-hot"),
        (good * np.nan, "NaN"),
        (good[0], "shape"),
        (np.concatenate([good, good]), "shape"),
    ]:
        with pytest.raises(EnvError, match=message):
            check_actions(bad, spec, 1)
    check_actions(np.array([[0.3, -2]]), ActionSpec("continuous", (2,)), 1)

"""Spaces: every supported kind, checked against values written out by hand; the rest is refused."""

from typing import Any

import cv2
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from reverie.envs.spaces import ActionAdapter, InvalidStepError, ObservationAdapter, check_actions
from reverie.errors import EnvError
from reverie.specs import ActionSpec, ArraySpec
from tests.helpers.environments import Everything


def observe(space: spaces.Space[Any], value: Any) -> dict[str, Any]:
    adapter = ObservationAdapter(space, "Test")
    result = adapter(value)
    assert {key: ArraySpec(array.shape, str(array.dtype)) for key, array in result.items()} == adapter.specs
    return result


def test_everything_at_once_in_the_order_of_the_space() -> None:
    space = Everything().observation_space
    assert ObservationAdapter(space, "Test").specs == {
        "camera": ArraySpec((64, 64, 3), "uint8"),
        "count": ArraySpec((1,), "float32"),
        "depth": ArraySpec((64, 64, 1), "uint8"),
        "dials": ArraySpec((5,), "float32"),
        "inner/choice": ArraySpec((4,), "float32"),
        "inner/switches": ArraySpec((3,), "float32"),
        "velocity": ArraySpec((6,), "float32"),
    }
    value = {
        "camera": np.full((64, 64, 3), 7, np.uint8),
        "count": np.array([4]),
        "depth": np.full((1, 32, 48), 0.5, np.float32),
        "dials": np.array([1, 2]),
        "inner": {"choice": 3, "switches": np.array([1, 0, 1], np.int8)},
        "velocity": np.arange(6.0).reshape(2, 3),
    }
    result = observe(space, value)
    assert (result["camera"] == 7).all()
    assert (result["depth"] == 128).all()  # round(0.5 * 255), half to even
    np.testing.assert_array_equal(result["count"], [4])
    np.testing.assert_array_equal(result["dials"], [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(result["inner/choice"], [0, 0, 1, 0])
    np.testing.assert_array_equal(result["inner/switches"], [1, 0, 1])
    np.testing.assert_array_equal(result["velocity"], [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((64, 64, 3), 3), ((3, 64, 64), 3), ((64, 64), 1), ((1, 64, 64), 1), ((64, 64, 1), 1), ((12, 64, 64), 12)],
)
def test_image_layouts(shape: tuple[int, ...], channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, channels), np.uint8)
    value = pixels.transpose(2, 0, 1) if len(shape) == 3 and shape[0] == channels else pixels.reshape(shape)
    result = observe(spaces.Box(0, 255, shape, np.uint8), value)
    np.testing.assert_array_equal(result["image"], pixels)
    assert not np.shares_memory(result["image"], value)


def test_resizing_averages_areas() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 192, 6), np.uint8)
    result = observe(spaces.Box(0, 255, pixels.shape, np.uint8), pixels)["image"]
    means = pixels.reshape(64, 2, 64, 3, 6).mean((1, 3))
    assert np.abs(result - means).max() <= 0.5 + 1e-6


def test_odd_sizes_are_resized_as_opencv_does_it() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (210, 160, 3), np.uint8)
    result = observe(spaces.Box(0, 255, pixels.shape, np.uint8), pixels)["image"]
    np.testing.assert_array_equal(result, cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA))
    small = observe(spaces.Box(0, 1, (10, 10, 4), np.bool_), np.ones((10, 10, 4), bool))["image"]
    assert small.shape == (64, 64, 4)
    assert (small == 255).all()


def test_a_bare_vector_and_bytes() -> None:
    np.testing.assert_array_equal(observe(spaces.Box(-1, 1, (2,)), np.array([0.5, -1]))["vector"], [0.5, -1])
    memory = observe(spaces.Box(0, 255, (2,), np.uint8), np.array([0, 255], np.uint8))
    np.testing.assert_allclose(memory["vector"], [-0.5, 0.5])
    np.testing.assert_array_equal(observe(spaces.Box(-1, 1, ()), 0.25)["vector"], [0.25])
    np.testing.assert_array_equal(observe(spaces.Discrete(2), 1)["vector"], [0, 1])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Dict({"words": spaces.Text(5)}),
        spaces.Box(0, 255, (4, 84, 84, 3), np.uint8),
        spaces.Box(-1, 1, (8, 8, 3), np.float32),
        spaces.Box(0, 1, (0,), np.float32),
        spaces.Dict({}),
    ],
    ids=str,
)
def test_unsupported_observations_are_named(space: spaces.Space[Any]) -> None:
    with pytest.raises(EnvError) as caught:
        ObservationAdapter(space, "MyEnv-v3")
    message = str(caught.value)
    assert "MyEnv-v3" in message
    assert "Discrete, MultiDiscrete, MultiBinary" in message
    assert str(space) in message or "words" in message


@pytest.mark.parametrize("key", ["reward", "action", "is_first"])
def test_reserved_keys(key: str) -> None:
    with pytest.raises(EnvError, match=f"'{key}' is taken"):
        ObservationAdapter(spaces.Dict({key: spaces.Discrete(2)}), "Test")


@pytest.mark.parametrize(
    ("space", "value", "complaint"),
    [
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), np.zeros((64, 64, 1), np.uint8), "has shape"),
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.float32), "has dtype float32"),
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.int64), "has dtype int64"),
        (spaces.Box(0, 1, (8, 8, 3), np.float32), np.full((8, 8, 3), 200, np.float32), "outside"),
        (spaces.Box(-1, 1, (2,)), np.array([np.nan, 0], np.float32), "NaN"),
        (spaces.Box(-1, 1, (2,)), np.array([np.inf, 0], np.float32), "infinity"),
        (spaces.Box(-1, 1, (2,)), np.array(["a", "b"]), "has dtype"),
        (spaces.Box(-1, 1, (2,)), [[1], [2, 3]], "is no array"),
        (spaces.Box(-1, 1, (2,)), {"a": 1}, "has shape"),
        (spaces.Box(-9, 9, (2,), np.int64), np.array([0.5, 1]), "has dtype float64"),
        (spaces.Discrete(3), 3, "not in Discrete"),
        (spaces.Discrete(3, start=1), 0, "not in Discrete"),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"b": 1}, "entry 'a' is missing"),
        (spaces.Dict({"a": spaces.Discrete(2)}), 1, "entry 'a' is missing"),
    ],
)
def test_values_that_do_not_fit(space: spaces.Space[Any], value: Any, complaint: str) -> None:
    with pytest.raises(InvalidStepError, match=complaint):
        ObservationAdapter(space, "Test")(value)


def test_float64_that_overflows_float32_is_infinity() -> None:
    with pytest.raises(InvalidStepError, match="infinity"):
        ObservationAdapter(spaces.Box(-np.inf, np.inf, (1,), np.float64), "Test")(np.array([1e300]))


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


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, np.inf, (2,)),
        spaces.Box(-9, 9, (2,), np.int64),
        spaces.MultiDiscrete([[2, 3], [4, 5]]),
        spaces.MultiBinary(3),
        spaces.Dict({"a": spaces.Discrete(2)}),
        spaces.Tuple((spaces.Discrete(2),)),
    ],
    ids=str,
)
def test_unsupported_actions_are_named(space: spaces.Space[Any]) -> None:
    with pytest.raises(EnvError, match="MyEnv-v3: the action space") as caught:
        ActionAdapter(space, "MyEnv-v3")
    assert str(space) in str(caught.value)


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

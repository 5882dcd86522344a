"""Observations of every space, checked against values written out by hand; what cannot be read is refused."""

from typing import Any

import cv2
import numpy as np
import pytest
from gymnasium import spaces

from reverie.envs.observations import ObservationAdapter
from reverie.envs.spaces import InvalidStepError
from reverie.errors import EnvError
from reverie.specs import ArraySpec
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
    small = observe(spaces.Box(0, 1, (16, 20, 4), np.bool_), np.ones((16, 20, 4), bool))["image"]
    assert small.shape == (64, 64, 4)
    assert (small == 255).all()


def test_a_bare_vector_and_bytes() -> None:
    np.testing.assert_array_equal(observe(spaces.Box(-1, 1, (2,)), np.array([0.5, -1]))["vector"], [0.5, -1])
    memory = observe(spaces.Box(0, 255, (2,), np.uint8), np.array([0, 255], np.uint8))
    np.testing.assert_allclose(memory["vector"], [-0.5, 0.5])
    np.testing.assert_array_equal(observe(spaces.Box(-1, 1, ()), 0.25)["vector"], [0.25])
    np.testing.assert_array_equal(observe(spaces.Discrete(2), 1)["vector"], [0, 1])


NODES = spaces.Box(-1, 1, (2,))
UNREADABLE = {
    "Text": spaces.Text(5),
    "Sequence": spaces.Sequence(spaces.Discrete(2)),
    "Graph": spaces.Graph(NODES, spaces.Discrete(3)),
    "OneOf": spaces.OneOf((spaces.Discrete(2), NODES)),
    "empty": spaces.Box(0, 1, (0,), np.float32),
}


@pytest.mark.parametrize(
    "space",
    [
        *UNREADABLE.values(),
        spaces.Dict({"words": spaces.Text(5)}),
        spaces.Tuple((spaces.Text(5), spaces.Box(0, 1, (2, 0)))),
        spaces.Dict({}),
    ],
    ids=str,
)
def test_observations_of_nothing_readable_are_refused(space: spaces.Space[Any]) -> None:
    with pytest.raises(EnvError, match=r"MyEnv-v3: the observation space .* is not supported; ") as caught:
        ObservationAdapter(space, "MyEnv-v3")
    message = str(caught.value)
    assert "Discrete, MultiDiscrete, MultiBinary" in message
    assert type(space).__name__ in message and len(message) <= 160


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_entries_are_left_out_with_a_note(name: str) -> None:
    space = spaces.Dict({"it": UNREADABLE[name], "state": NODES})
    adapter = ObservationAdapter(space, "Test")
    assert list(adapter.specs) == ["state"]
    reason = "it is empty" if name == "empty" else f"the agent cannot read {name}"
    assert adapter.notes == [f"The observation 'it' is left out, since {reason}."]
    np.testing.assert_array_equal(adapter({"it": object(), "state": np.ones(2, np.float32)})["state"], [1, 1])


def test_tuples_are_numbered_also_where_one_is_left_out() -> None:
    inner = spaces.Dict({"a": spaces.Tuple((spaces.Text(3), spaces.Discrete(2)))})
    space = spaces.Tuple((spaces.Discrete(3), inner, spaces.MultiBinary(2)))
    assert list(ObservationAdapter(space, "Test").specs) == ["0", "1/a/1", "2"]
    result = observe(space, (2, {"a": ("yes", 1)}, np.array([1, 0], np.int8)))
    np.testing.assert_array_equal(result["0"], [0, 0, 1])
    np.testing.assert_array_equal(result["1/a/1"], [0, 1])
    np.testing.assert_array_equal(result["2"], [1, 0])
    with pytest.raises(InvalidStepError, match="entry '2' is missing"):
        ObservationAdapter(space, "Test")((2, {"a": ("yes", 1)}))


def test_vectors_of_any_number_of_dimensions_are_flattened() -> None:
    for space, value in [
        (spaces.Box(-1, 1, (2, 3, 4, 5, 6)), np.ones((2, 3, 4, 5, 6), np.float32)),
        (spaces.MultiBinary((2, 3)), np.ones((2, 3), np.int8)),
    ]:
        assert (observe(space, value)["vector"] == 1).all()
    space = spaces.MultiDiscrete([[2, 3], [2, 2]], start=[[0, 1], [0, 0]])
    np.testing.assert_array_equal(observe(space, np.array([[1, 3], [0, 1]]))["vector"], [0, 1, 0, 0, 1, 1, 0, 0, 1])


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 1, np.float32),
        (-1, 1, np.float32),
        (0, 255, np.float64),
        (-0.5, 0.5, np.float16),
        (-60000, 60000, np.float16),
        (0, 65535, np.uint16),
        (0, 10, np.int64),
    ],
)
def test_images_are_scaled_by_their_bounds(low: float, high: float, dtype: Any) -> None:
    space = spaces.Box(low, high, (64, 64, 3), dtype)
    assert (observe(space, np.full(space.shape, low, dtype))["image"] == 0).all()
    assert (observe(space, np.full(space.shape, high, dtype))["image"] == 255).all()
    fifth = np.full(space.shape, low + (high - low) / 5, dtype)
    assert (observe(space, fifth)["image"] == 51).all()
    with pytest.raises(InvalidStepError, match="outside the space's bounds"):
        ObservationAdapter(space, "Test")(np.full(space.shape, high + 1, dtype if high < 256 else np.int64))


def test_images_with_bounds_of_their_own_for_each_channel_are_scaled_by_them() -> None:
    low, high = np.zeros((32, 64, 3), np.float32), np.full((32, 64, 3), [1, 10, 0], np.float32)
    result = observe(spaces.Box(low, high), high)["image"]
    assert result.shape == (64, 64, 3) and (result == [255, 255, 0]).all()


@pytest.mark.parametrize("shape", [(4, 64, 64, 3), (4, 3, 64, 64), (4, 64, 64, 1)])
def test_stacked_frames_are_channels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    image = observe(spaces.Box(0, 255, shape, np.uint8), pixels)["image"]
    frames = pixels.transpose(0, 2, 3, 1) if shape[1] == 3 else pixels
    np.testing.assert_array_equal(image, np.concatenate(list(frames), -1))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, np.inf, (64, 64, 1)),
        spaces.Box(-np.inf, np.inf, (64, 64, 3), np.float64),
        spaces.Box(-3.4e38, 3.4e38, (64, 64, 3)),
        spaces.Box(-(2**31), 2**31 - 1, (64, 64, 3), np.int32),
    ],
    ids=str,
)
def test_images_without_bounds_are_refused_with_advice(space: spaces.Space[Any]) -> None:
    with pytest.raises(EnvError, match=r"MyEnv: the image in the observation 'depth' .* Clip it") as refused:
        ObservationAdapter(spaces.Dict({"depth": space}), "MyEnv")
    assert len(str(refused.value)) <= 160
    adapter = ObservationAdapter(space, "MyEnv", vector_keys=["image"])
    assert adapter.specs["vector"].size == spaces.flatdim(space)


@pytest.mark.parametrize(("shape", "dtype"), [((7, 7, 3), np.uint8), ((10, 10), np.bool_), ((8, 8, 3), np.float32)])
def test_small_grids_are_vectors_unless_they_are_named_images(shape: tuple[int, ...], dtype: Any) -> None:
    space = spaces.Box(0, 1 if dtype == np.bool_ else 255, shape, dtype)
    adapter = ObservationAdapter(spaces.Dict({"grid": space}), "Test")
    value = np.full(shape, 1, dtype)
    np.testing.assert_array_equal(adapter({"grid": value})["grid"], np.ones(spaces.flatdim(space), np.float32))
    (note,) = adapter.notes
    assert note == (
        f"The observation 'grid' of shape {shape} is read as a vector, since a side is shorter than 16; "
        "env.image_keys makes it an image."
    )
    forced = ObservationAdapter(spaces.Dict({"grid": space}), "Test", image_keys=["grid"])
    assert forced({"grid": value})["grid"].shape == (64, 64, 1 if len(shape) == 2 else 3) and not forced.notes
    assert list(ObservationAdapter(space, "Test", image_keys=["image"]).specs) == ["image"]


def test_frames_along_the_last_axis_are_a_vector_with_advice() -> None:
    (note,) = ObservationAdapter(spaces.Box(0, 255, (64, 64, 3, 4), np.uint8), "Test").notes
    assert "is read as a vector, since frames must be along the first axis" in note and len(note) <= 160


def test_dark_bytes_are_noted() -> None:
    (note,) = ObservationAdapter(spaces.Box(0, 10, (20, 20), np.uint8), "Test").notes
    assert "is dark, with values of at most 10 of 255" in note


def test_vector_keys_keep_the_values_of_an_image() -> None:
    adapter = ObservationAdapter(spaces.Box(0, 255, (20, 20, 3), np.uint8), "Test", vector_keys=["image"])
    assert (adapter(np.full((20, 20, 3), 200, np.uint8))["vector"] == 200).all()


def test_names_that_fit_nothing_are_refused() -> None:
    space = spaces.Dict({"camera": spaces.Box(0, 255, (20, 20), np.uint8), "choice": spaces.Discrete(2)})
    with pytest.raises(EnvError, match=r"Test: .* name 'camra', .* The keys are 'camera', 'choice'\."):
        ObservationAdapter(space, "Test", image_keys=["camra"])
    with pytest.raises(EnvError, match=r"Test: the observation 'choice' .* is no image"):
        ObservationAdapter(space, "Test", image_keys=["choice"])


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
        (spaces.Box(0, 1, (16, 16, 3), np.float32), np.full((16, 16, 3), 200, np.float32), "outside"),
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


def test_infinity_is_found_in_floats_of_any_width() -> None:
    with pytest.raises(InvalidStepError, match="infinity"):
        ObservationAdapter(spaces.Box(-1, 1, (1,), np.float16), "Test")(np.array([np.inf], np.float16))
    with pytest.raises(InvalidStepError, match="infinity"):
        ObservationAdapter(spaces.Box(-np.inf, np.inf, (1,), np.float64), "Test")(np.array([1e300]))

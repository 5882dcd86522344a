"""The comparison itself: rounding passes, a difference does not."""

import numpy as np
import pytest

from tests.parity.compare import FORWARD, GRADIENT, OF_SCALE, WEIGHT, LoadGolden, Tolerance, close, group

ARRAY = np.array([7.9, -0.5, 0.01, 0.0], np.float32)
"""Values that reach 7.9, where float32 rounds sums by some 1e-6."""


@pytest.mark.parametrize("tolerance", [FORWARD, GRADIENT, WEIGHT])
@pytest.mark.parametrize("entry", range(len(ARRAY)))
def test_close_difference_below_the_scale_of_the_array_passes(tolerance: Tolerance, entry: int) -> None:
    actual = ARRAY.copy()
    actual[entry] += 0.9 * OF_SCALE * np.abs(ARRAY).max()
    close(actual, ARRAY, tolerance)


@pytest.mark.parametrize("entry", [1, 2, 3])
def test_close_difference_above_the_scale_of_the_array_fails(entry: int) -> None:
    actual = ARRAY.copy()
    actual[entry] += 1.1 * OF_SCALE * np.abs(ARRAY).max() + 1e-5 * abs(ARRAY[entry])
    with pytest.raises(AssertionError):
        close(actual, ARRAY, FORWARD)


def test_close_scale_of_another_array_does_not_count() -> None:
    small = ARRAY / 100
    with pytest.raises(AssertionError):
        close(small + 1.3e-5, small, FORWARD)


def test_close_expected_values_not_finite_fails() -> None:
    """An infinite expected value would make the tolerance infinite."""
    with pytest.raises(AssertionError, match="not finite"):
        close(ARRAY, np.where(ARRAY == 0, np.inf, ARRAY), FORWARD)


@pytest.mark.parametrize("name", ["embed", "grad_image", "recon_mean"])
@pytest.mark.parametrize(
    "change",
    [
        lambda values: values * (1 + 1e-3),
        lambda values: values + 1e-3 * np.abs(values).max(),
        lambda values: -values,
        lambda values: values[::-1],
        lambda values: np.where(np.arange(values.size).reshape(values.shape) == values.size // 2, 1.0, values),
    ],
    ids=["factor", "offset", "sign", "order", "one entry"],
)
def test_close_changed_golden_array_fails(golden: LoadGolden, name: str, change: object) -> None:
    expected = golden("06_encoder_decoder")[name]
    close(expected, expected, FORWARD)
    with pytest.raises(AssertionError):
        close(change(expected), expected, GRADIENT)


@pytest.mark.parametrize("bias", [-1.001, -0.999])
def test_close_gru_with_another_update_bias_fails(golden: LoadGolden, bias: float) -> None:
    """A thousandth of a constant of the algorithm shows in the numbers."""
    arrays = group(golden("02_gru_cell"), "norm/")
    inputs, weight = np.concatenate([arrays["inputs"], arrays["state"]], -1), group(arrays, "param/")
    parts = inputs @ weight["dense/kernel"] + weight.get("dense/bias", 0)
    mean, variance = parts.mean(-1, keepdims=True), parts.var(-1, keepdims=True)
    parts = (parts - mean) / np.sqrt(variance + 1e-3) * weight["norm/gamma"] + weight["norm/beta"]
    reset, candidate, update = np.split(parts, 3, -1)

    def output(bias: float) -> np.ndarray:
        update_gate = 1 / (1 + np.exp(-(update + bias)))
        new = np.tanh(candidate / (1 + np.exp(-reset)))
        return update_gate * new + (1 - update_gate) * arrays["state"]

    close(output(-1.0), arrays["output"], FORWARD)
    with pytest.raises(AssertionError):
        close(output(bias), arrays["output"], FORWARD)

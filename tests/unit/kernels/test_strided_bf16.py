"""Convolutions in bfloat16 against PyTorch's convolutions of the same numbers in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.kernels import strided_bf16 as ours

pytestmark = pytest.mark.skipif(not ours.available(torch.bfloat16), reason="not on this processor")

DTYPE = torch.bfloat16
ROUNDING = 2**-8
"""Largest error of a result, as a share of it."""
shapes = pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "size"),
    [
        pytest.param(1, 16, 4, 64, id="one channel"),
        pytest.param(3, 48, 4, 64, id="colours"),
        pytest.param(16, 32, 4, 31, id="unused pixel at the edge"),
        pytest.param(32, 64, 4, 14, id="four groups of channels"),
        pytest.param(24, 8, 4, 15, id="half a group of channels"),
        pytest.param(48, 56, 6, 13, id="two tiles, the second half filled"),
        pytest.param(16, 16, 5, 13, id="odd kernel"),
        pytest.param(16, 8, 4, 4, id="one position"),
    ],
)


def close(result: Tensor, exact: Tensor, tolerance: float) -> None:
    assert result.shape == exact.shape
    least = tolerance * exact.abs().mean().item()
    torch.testing.assert_close(result.double(), exact, rtol=tolerance, atol=least)


@shapes
@pytest.mark.parametrize("number", [1, 5])
def test_convolve_matches_float64(inputs: int, outputs: int, kernel: int, size: int, number: int) -> None:
    torch.manual_seed(0)
    image, weight, bias = (
        torch.randn(number, size, size, inputs).to(DTYPE),
        torch.randn(outputs, inputs, kernel, kernel).to(DTYPE),
        torch.randn(outputs),
    )
    assert ours.supports_convolve(image, weight) == (kernel % 2 == 0)
    plain = F.conv2d(image.double().movedim(3, 1), weight.double(), stride=2).movedim(1, 3)
    close(ours.convolve(image, weight), plain, ROUNDING)
    close(ours.convolve(image, weight, bias), F.elu(plain + bias), ROUNDING)


@shapes
@pytest.mark.parametrize("number", [1, 5])
def test_kernel_gradient_matches_float64(inputs: int, outputs: int, kernel: int, size: int, number: int) -> None:
    torch.manual_seed(0)
    rows = (size - kernel) // 2 + 1
    image, pixels = (
        torch.randn(number, size, size, inputs).to(DTYPE),
        torch.randn(number, rows, rows, outputs).to(DTYPE),
    )
    if not ours.supports_kernel_gradient(image, pixels, kernel):
        assert kernel * inputs % 16
        return
    weight = torch.zeros(outputs, inputs, kernel, kernel, dtype=torch.float64, requires_grad=True)
    y = F.conv2d(image.double().movedim(3, 1), weight, stride=2).movedim(1, 3)
    (exact,) = torch.autograd.grad(y, weight, pixels.double())
    result = ours.kernel_gradient(image, pixels, kernel)
    assert result.dtype == torch.float32
    close(result, exact, 1e-4)


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "size", "beyond"),
    [
        pytest.param(32, 16, 6, 13, 0, id="many channels"),
        pytest.param(16, 8, 4, 14, 1, id="pixel at the edge without contribution"),
        pytest.param(8, 4, 2, 5, 0, id="kernels that do not overlap"),
        pytest.param(24, 12, 6, 2, 0, id="image smaller than half the kernel"),
        pytest.param(16, 1, 6, 30, 0, id="one channel"),
        pytest.param(48, 3, 6, 30, 0, id="colours"),
    ],
)
@pytest.mark.parametrize("number", [1, 5])
def test_convolve_transposed_matches_float64(
    inputs: int, outputs: int, kernel: int, size: int, beyond: int, number: int
) -> None:
    torch.manual_seed(0)
    image, weight, bias = (
        torch.randn(number, size, size, inputs).to(DTYPE),
        torch.randn(inputs, outputs, kernel, kernel).to(DTYPE),
        torch.randn(outputs),
    )
    assert ours.supports_transposed(image, weight)
    plain = F.conv_transpose2d(image.double().movedim(3, 1), weight.double(), stride=2).movedim(1, 3)
    reached = plain.shape[1]
    whole = (reached + beyond, reached + beyond)
    result = ours.convolve_transposed(image, weight, whole)
    close(result[:, :reached, :reached], plain, ROUNDING)
    assert not result[:, reached:].any() and not result[:, :, reached:].any()
    with_bias = ours.convolve_transposed(image, weight, whole, bias)[:, :reached, :reached]
    close(with_bias, F.elu(plain + bias), ROUNDING)
    without_elu = ours.convolve_transposed(image, weight, whole, bias, elu=False)[:, :reached, :reached]
    close(without_elu, plain + bias, ROUNDING)


def test_convolve_after_change_of_weight_reads_new_weight() -> None:
    image, weight = torch.randn(1, 8, 8, 8).to(DTYPE), torch.nn.Parameter(torch.randn(8, 8, 4, 4))
    before = ours.convolve(image, weight)
    with torch.no_grad():
        weight.mul_(2)
    assert torch.equal(ours.convolve(image, weight), 2 * before)


def test_convolve_of_nonfinite_pixel_is_nonfinite() -> None:
    image, weight = torch.zeros(1, 4, 4, 8).to(DTYPE), torch.randn(8, 8, 4, 4).to(DTYPE)
    for value in (float("nan"), float("inf")):
        image[0, 0, 0, 0] = value
        assert not ours.convolve(image, weight, torch.zeros(8)).isfinite().all()


def test_kernel_gradient_repeated_is_identical() -> None:
    image, pixels = torch.randn(9, 14, 14, 16).to(DTYPE), torch.randn(9, 6, 6, 8).to(DTYPE)
    first = ours.kernel_gradient(image, pixels, 4)
    assert all(torch.equal(first, ours.kernel_gradient(image, pixels, 4)) for _ in range(5))

"""Convolutions of stride 2 in bfloat16 by the loops of `convolutions.c`, for processors with AVX-512-BF16.

The convolutions of oneDNN take up to four times as long there, above all for gradients and for few channels. They are
used where there is AMX. Images are [N, H, W, C]; sums are float32.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.devices import cpu_flags
from reverie.kernels import library
from reverie.kernels.operations import derive

LANES, TILE, UNIT = 16, 48, 2
"""Channels that the processor computes at once, channels of a tile of the loops, and numbers of a lane."""


@functools.cache
def available(dtype: torch.dtype) -> bool:
    """Return whether this processor has such loops for a dtype, and nothing faster."""
    loaded = library.load()
    if loaded is None or dtype != torch.bfloat16 or not loaded.has("convolve", dtype):
        return False
    return "amx_bf16" not in cpu_flags()


def supports_convolve(image: Tensor, weight: Tensor) -> bool:
    """Return whether `convolve` supports these: channels by eights, an even kernel (odd ones are faster in oneDNN)."""
    return available(image.dtype) and weight.shape[0] % 8 == 0 and weight.shape[3] % 2 == 0


def supports_transposed(image: Tensor, weight: Tensor) -> bool:
    """Return whether `convolve_transposed` supports these: channels by eights, an even kernel, whole blocks."""
    kernel, together = weight.shape[2], _together(weight.shape[1])
    blocks = kernel % 2 == 0 and (image.shape[2] + kernel // 2 - 1) % together == 0
    return available(image.dtype) and weight.shape[0] % 8 == 0 and blocks


def supports_kernel_gradient(image: Tensor, pixels: Tensor, kernel: int) -> bool:
    """Return whether `kernel_gradient` supports these: channels by eights, and runs of pixels that fill the lanes."""
    run = kernel * image.shape[3]
    return available(image.dtype) and pixels.shape[3] % 8 == 0 and run % LANES == 0


def convolve(image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a convolution of [N, H, W, I] to [N, H', W', O]; with a bias, `elu(convolution + bias)`.

    Args:
        image: dense, bfloat16.
        weight: the parameter [O, I, k, k], in any dtype.
        bias: [O] float32.
    """
    number, height, width, channels = image.shape
    out_channels, _, kernel, _ = weight.shape
    out_height, out_width = ((size - kernel) // 2 + 1 for size in (height, width))
    out = image.new_empty((number, out_height, out_width, out_channels))
    packed = derive(weight, "convolve", lambda value: _pack_convolution(value.to(image.dtype)))
    shape = (number, height, width, channels, out_channels, kernel)
    _call("convolve", image.dtype, image, packed, _pad(bias), out, *shape, int(bias is not None))
    return out


def _pack_convolution(weight: Tensor) -> Tensor:
    return _pack(weight.permute(2, 3, 1, 0).flatten(1, 2))


def convolve_transposed(
    image: Tensor, weight: Tensor, size: tuple[int, int], bias: Tensor | None = None, elu: bool = True
) -> Tensor:
    """Return a transposed convolution of [N, H, W, I] to [N, *size, O], zero at pixels without contribution.

    With a bias it is `elu(transposed convolution + bias)`, or the same without ELU.

    Args:
        image: dense, bfloat16.
        weight: the parameter [I, O, k, k], in any dtype; k is even.
        size: height and width of the result, at most one more than what is reached.
        bias: [O] float32.
        elu: whether to apply it.
    """
    number, height, width, channels = image.shape
    _, out_channels, kernel, _ = weight.shape
    together = _together(out_channels)
    packed = derive(weight, "convolve_transposed", lambda value: _pack_transposed(value.to(image.dtype), together))
    out = image.new_empty((number, *size, out_channels))
    bias = None if bias is None else bias.repeat(4 * together)
    shape = (number, height, width, channels, *size, out_channels, kernel, together)
    _call("convolve_transposed", image.dtype, image, packed, _pad(bias), out, *shape, int(elu and bias is not None))
    return out


def _together(channels: int) -> int:
    """Return the number of neighbouring positions to compute at once, so that few channels fill the lanes, too."""
    return 1 if channels % 4 == 0 else 4


def _pack_transposed(weight: Tensor, together: int) -> Tensor:
    """Return a weight for blocks of `together` positions, whose run of pixels is longer by as many."""
    channels, out_channels, kernel, _ = weight.shape
    half = kernel // 2
    # [a, b, I, p, q, O] with kernel row 2a + p and column 2b + q; runs go from the left, where b is greatest.
    single = weight.view(channels, out_channels, half, 2, half, 2).permute(2, 4, 0, 3, 5, 1).flip(1)
    block = weight.new_zeros((half, together + half - 1, channels, 2, together, 2, out_channels))
    for position in range(together):
        block[:, position : position + half, :, :, position] = single
    return _pack(block.flatten(3).flatten(1, 2))


def kernel_gradient(image: Tensor, pixels: Tensor, kernel: int) -> Tensor:
    """Return the gradient [O, I, k, k] of a convolution's weight, in float32.

    Args:
        image: what was convolved, [N, H, W, I], dense, bfloat16.
        pixels: the gradient of the result, [N, H', W', O], the same.
        kernel: k.
    """
    number, height, width, channels = image.shape
    rows, columns, out_channels = pixels.shape[1:]
    result = torch.zeros((kernel, out_channels, kernel * channels))
    shape = (number, height, width, channels, rows, columns, out_channels, kernel)
    _call("kernel_gradient", image.dtype, image, pixels, result, *shape)
    return result.unflatten(2, (kernel, channels)).permute(1, 3, 0, 2)


def _pack(weight: Tensor) -> Tensor:
    """Return a weight [kernel rows, run, columns] ordered by tiles of columns, and therein by units of the run."""
    tiles = F.pad(weight, (0, -weight.shape[2] % LANES)).unflatten(1, (-1, UNIT)).split(TILE, 3)
    return torch.cat([tile.transpose(2, 3).flatten() for tile in tiles])


def _pad(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else F.pad(bias.detach(), (0, -len(bias) % LANES))


def _call(name: str, dtype: torch.dtype, *arguments: Tensor | int | None) -> None:
    loaded = library.load()
    assert loaded is not None
    loaded(name, dtype, *arguments)

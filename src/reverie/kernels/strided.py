"""Convolutions of stride 2 without padding, and their gradients, each by the faster of oneDNN and our loops.

Images are [N, H, W, C]. Weights are the parameters as PyTorch stores them: [O, I, k, k], of transposed convolutions
[I, O, k, k].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.kernels import strided_bf16 as loops
from reverie.kernels.operations import bias_elu_, cast


def convolve_elu(image: Tensor, weight: Tensor, bias: Tensor, transposed: bool) -> Tensor:
    """Return `elu(convolution + bias)`."""
    if transposed and loops.supports_transposed(image, weight):
        return loops.convolve_transposed(image, weight, transposed_size(image, weight), bias.detach())
    if not transposed and loops.supports_convolve(image, weight):
        return loops.convolve(image, weight, bias.detach())
    # Without its bias, which makes oneDNN take an implementation of the transposed kind that is four times slower.
    convolve = F.conv_transpose2d if transposed else F.conv2d
    y = convolve(image.permute(0, 3, 1, 2), cast(weight, image.dtype), stride=2)
    return bias_elu_(y.permute(0, 2, 3, 1).contiguous(), bias.detach())


def convolve_to_few(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return a transposed convolution with a bias, to few channels and with an even kernel.

    With y[2i + p] = sum_j x[i - j] w[2j + p], the outputs of each phase p are an ordinary convolution with every second
    weight: three times as fast for few channels.
    """
    if loops.supports_transposed(image, weight):
        return loops.convolve_transposed(image, weight, transposed_size(image, weight), bias.detach(), elu=False)
    half = weight.shape[2] // 2
    phases = cast(weight, image.dtype).unflatten(3, (half, 2)).unflatten(2, (half, 2)).permute(1, 3, 5, 0, 2, 4)
    kernel = phases.flip(4, 5).flatten(0, 2)
    phases = F.conv2d(image.permute(0, 3, 1, 2), kernel, padding=half - 1).unflatten(1, (-1, 2, 2))
    return phases.permute(0, 4, 2, 5, 3, 1).flatten(3, 4).flatten(1, 2) + bias.detach().to(image.dtype)


def transposed_size(image: Tensor, weight: Tensor) -> tuple[int, int]:
    """Return the height and width of a transposed convolution's result."""
    return 2 * (image.shape[1] - 1) + weight.shape[2], 2 * (image.shape[2] - 1) + weight.shape[3]


def image_gradient(grad: Tensor, image: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    """Return the gradient of the convolved image, given that of the result."""
    if transposed and loops.supports_convolve(grad, weight):
        return loops.convolve(grad, weight)
    if not transposed and loops.supports_transposed(grad, weight):
        return loops.convolve_transposed(grad, weight, (image.shape[1], image.shape[2]))
    return _convolution_backward(grad, image, weight, transposed, 0).permute(0, 2, 3, 1)


def kernel_gradient(grad: Tensor, image: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    """Return the gradient of the weight, in its dtype, given that of the result."""
    wide, narrow = (grad, image) if transposed else (image, grad)
    if loops.supports_kernel_gradient(wide, narrow, weight.shape[2]):
        return loops.kernel_gradient(wide, narrow, weight.shape[2]).to(weight.dtype)
    return _convolution_backward(grad, image, weight, transposed, 1).to(weight.dtype)


def _convolution_backward(grad: Tensor, image: Tensor, weight: Tensor, transposed: bool, wanted: int) -> Tensor:
    """Return PyTorch's gradient of the image (0) or of the weight (1), channels first."""
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        grad.permute(0, 3, 1, 2),
        image.permute(0, 3, 1, 2),
        cast(weight, image.dtype),
        None,
        *([2, 2], [0, 0], [1, 1]),  # stride, padding, dilation
        transposed,
        *([0, 0], 1),  # output padding, groups
        [wanted == 0, wanted == 1, False],
    )
    return gradients[wanted]

"""Convolutions of stride 2 with their bias and ELU as single functions, forward and backward.

Images are [N, H, W, C], the layout in which the convolutions of a CPU are fastest.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reverie.dreamer.encoder_decoder import ConvLayer
from reverie.kernels.dense import apply, dense_elu
from reverie.kernels.operations import bias_elu_, bias_elu_backward, cast, compute_dtype, is_supported, product
from reverie.kernels.replaced import is_plain
from reverie.kernels.strided import convolve_elu, convolve_to_few, image_gradient, kernel_gradient


class FastConvLayer(ConvLayer):
    """`ConvLayer` with ELU, or without activation, and without layer norm."""

    @staticmethod
    def is_applicable(layer: ConvLayer) -> bool:
        """Return whether a layer can be of this class."""
        is_last = isinstance(layer.activation, nn.Identity)
        has_activation = isinstance(layer.activation, nn.ELU)
        is_even = isinstance(layer.conv, nn.ConvTranspose2d) and layer.conv.kernel_size[0] % 2 == 0
        is_unchanged = is_plain(layer, ConvLayer, FastConvLayer) and is_plain(layer.conv, nn.Conv2d, nn.ConvTranspose2d)
        return is_unchanged and isinstance(layer.norm, nn.Identity) and (has_activation or (is_last and is_even))

    def forward(self, image: Tensor) -> Tensor:
        """Apply the layer to images with channels last."""
        conv, bias = self.conv, self.conv.bias
        assert bias is not None
        if not is_supported(image, bias):
            return super().forward(image)
        if isinstance(self.activation, nn.Identity):
            return apply(_LastDeconvolution, image, conv.weight, bias)
        if isinstance(conv, nn.ConvTranspose2d):
            return apply(_FirstDeconvolution if image.shape[1] == 1 else _Deconvolution, image, conv.weight, bias)
        kernel = conv.kernel_size[0]
        if image.shape[1] <= 2 * kernel:
            # To a few pixels: oneDNN's gradient of the weight is four times slower than the product that it is.
            windows = apply(_Windows, image, kernel)
            y = dense_elu(windows.flatten(0, 2), conv.weight.permute(0, 2, 3, 1).flatten(1), bias)
            return y.unflatten(0, windows.shape[:3])
        return apply(_Convolution, image, conv.weight, bias)


class _Convolution(torch.autograd.Function):
    """`elu(convolution + bias)`, stride 2."""

    transposed = False

    @classmethod
    def forward(cls, ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Images [N, H, W, I]; the result is [N, H', W', O] in the compute dtype."""
        image = x.detach().to(compute_dtype(x)).contiguous()
        y = convolve_elu(image, weight, bias, cls.transposed)
        ctx.save_for_backward(image, weight, y)
        ctx.x_dtype = x.dtype
        return y

    @classmethod
    @once_differentiable
    def backward(cls, ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """For x, weight and bias."""
        image, weight, y = ctx.saved_tensors
        grad, bias_grad = bias_elu_backward(grad, y)
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = image_gradient(grad, image, weight, cls.transposed).to(ctx.x_dtype)
        return x_grad, kernel_gradient(grad, image, weight, cls.transposed), bias_grad


class _Deconvolution(_Convolution):
    """`elu(transposed convolution + bias)`, stride 2."""

    transposed = True


class _FirstDeconvolution(torch.autograd.Function):
    """`elu(transposed convolution + bias)` of one pixel, which is a matrix product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Images [N, 1, 1, I]; the result is [N, H', W', O] in the compute dtype."""
        dtype = compute_dtype(x)
        rows = x.detach().to(dtype).flatten(1)
        y = product(rows, cast(weight, dtype).flatten(1).T).unflatten(1, weight.shape[1:])
        y = y.permute(0, 2, 3, 1).contiguous()
        bias_elu_(y, bias.detach())
        ctx.save_for_backward(rows, weight, y)
        ctx.x_dtype = x.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """For x, weight and bias."""
        rows, weight, y = ctx.saved_tensors
        grad, bias_grad = bias_elu_backward(grad, y)
        grad = grad.permute(0, 3, 1, 2).flatten(1)
        x_grad = product(grad, cast(weight, rows.dtype).flatten(1))[:, None, None, :]
        weight_grad = product(rows.T, grad.T).view(weight.shape)
        return x_grad.to(ctx.x_dtype), weight_grad.to(weight.dtype), bias_grad


class _Windows(torch.autograd.Function):
    """Inputs of a convolution of stride 2 at each of its output pixels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int) -> Tensor:
        """Images [N, H, W, I] to [N, H', W', kernel * kernel * I]."""
        ctx.shape, ctx.kernel = x.shape, kernel
        return _windows(x.detach(), kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """For the images."""
        kernel, (_, height, width, _) = ctx.kernel, grad.shape
        windows = grad.unflatten(3, (kernel, kernel, -1))
        result = grad.new_zeros(ctx.shape)
        for i in range(kernel):
            for j in range(kernel):
                result[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2] += windows[:, :, :, i, j]
        return result, None


def _windows(image: Tensor, kernel: int) -> Tensor:
    return image.unfold(1, kernel, 2).unfold(2, kernel, 2).permute(0, 1, 2, 4, 5, 3).flatten(3)


class _LastDeconvolution(torch.autograd.Function):
    """A transposed convolution of stride 2 with an even kernel to few channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Images [N, H, W, I]; the result is [N, H', W', O] in the compute dtype."""
        image = x.detach().to(compute_dtype(x)).contiguous()
        ctx.save_for_backward(image, weight)
        ctx.x_dtype = x.dtype
        return convolve_to_few(image, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """For x, weight and bias; as phases, these would be slower."""
        image, weight = ctx.saved_tensors
        grad = grad.to(image.dtype).contiguous()
        x_grad = image_gradient(grad, image, weight, True).to(ctx.x_dtype)
        return x_grad, kernel_gradient(grad, image, weight, True), grad.sum((0, 1, 2), dtype=torch.float32)

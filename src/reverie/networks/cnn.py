"""Convolutions between 64x64 images and vectors (SPEC 13, 14)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reverie.fast.convolutions import conv_elu, deconv
from reverie.networks.layers import LayerNorm

ENCODER_KERNELS = (4, 4, 4, 4)  # 64 -> 31 -> 14 -> 6 -> 2
DECODER_KERNELS = (5, 5, 6, 6)  # 1 -> 5 -> 13 -> 30 -> 64


def _norm(channels: int, layer_norm: bool) -> nn.Module:
    return LayerNorm(channels) if layer_norm else nn.Identity()


def _convolve(x: Tensor, layer: nn.Module, norm: nn.Module, activation: str) -> Tensor:
    if activation == "elu":
        return conv_elu(x, layer, norm)
    return F.relu(norm(layer(x.movedim(-1, 1)).movedim(1, -1)))


class ImageEncoder(nn.Module):
    """Four strided convolutions with ELU (or ReLU), flattened; channels d, 2d, 4d, 8d."""

    def __init__(self, channels: int, depth: int, layer_norm: bool, activation: str = "elu") -> None:
        super().__init__()
        self.activation = activation
        sizes = [channels] + [depth * 2**i for i in range(len(ENCODER_KERNELS))]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, kernel, stride=2)
            for i, o, kernel in zip(sizes[:-1], sizes[1:], ENCODER_KERNELS, strict=True)
        )
        self.norms = nn.ModuleList(_norm(size, layer_norm) for size in sizes[1:])
        self.output_size = 2 * 2 * sizes[-1]

    def forward(self, image: Float[Tensor, "N 64 64 C"]) -> Float[Tensor, "N E"]:
        """Embed images; E = 32 d, in the order height, width, channel."""
        x = image
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = _convolve(x, conv, norm, self.activation)
        return x.flatten(1)


class ImageDecoder(nn.Module):
    """A linear layer to a 1x1 image of 32 d channels, then four transposed convolutions; ELU (or ReLU) between them."""

    def __init__(self, inputs: int, channels: int, depth: int, layer_norm: bool, activation: str = "elu") -> None:
        super().__init__()
        self.activation = activation
        sizes = [32 * depth, 4 * depth, 2 * depth, depth, channels]
        self.linear = nn.Linear(inputs, sizes[0])
        self.deconvs = nn.ModuleList(
            nn.ConvTranspose2d(i, o, kernel, stride=2)
            for i, o, kernel in zip(sizes[:-1], sizes[1:], DECODER_KERNELS, strict=True)
        )
        self.norms = nn.ModuleList(_norm(size, layer_norm) for size in sizes[1:-1])

    def forward(self, feat: Float[Tensor, "N F"]) -> Float[Tensor, "N 64 64 C"]:
        """Mean images, in the space of the encoder's input: pixel/255 - 0.5."""
        x = self.linear(feat)[:, None, None, :]
        for layer, norm in zip(self.deconvs[:-1], self.norms, strict=True):
            x = _convolve(x, layer, norm, self.activation)
        return deconv(x, self.deconvs[-1])

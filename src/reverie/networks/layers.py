"""Dense layers, layer norm and initialisation with the conventions of the release (Keras defaults)."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reverie.config import MLPConfig
from reverie.fast.dense import dense_elu
from reverie.fast.features import Features

LAYER_NORM_EPS = 1e-3
"""Keras' default, a hundred times PyTorch's (SPEC 12)."""


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis, computed in float32 whatever the precision around it (SPEC 12, 37)."""

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=LAYER_NORM_EPS)

    def forward(self, input: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Normalise over D; the result has the input's dtype."""
        return super().forward(input.float()).to(input.dtype)


class Dense(nn.Module):
    """Linear, then layer norm if asked for, then ELU: the hidden layer used everywhere (SPEC 12, 16)."""

    def __init__(self, inputs: int, units: int, layer_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units)
        self.norm = LayerNorm(units) if layer_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "*N I"] | Features, known: Float[Tensor, "*N O"] | None = None
    ) -> Float[Tensor, "*N O"]:
        """Apply the layer to the last axis; `known` is the result without its gradient, if it was kept."""
        if isinstance(self.norm, nn.Identity):
            return dense_elu(x, self.linear, known)
        return F.elu(self.norm(self.linear(x)))


class OutputLinear(nn.Linear):
    """Linear layer in float32 whatever the precision around it.

    Advantages are differences of values that are much larger: with 8 bits of mantissa, a value of 64 has steps of 0.25
    (`docs/performance.md`, "Precision").
    """

    def forward(self, input: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """Apply the layer to the last axis; the result is float32."""
        # The meta device has no autocast of its own.
        with torch.autocast("cpu" if input.is_meta else input.device.type, enabled=False):
            return super().forward(input.float())


class MLP(nn.Sequential):
    """Hidden layers, and a linear output of `outputs` entries in float32 if it is not 0 (SPEC 15)."""

    def __init__(self, inputs: int, config: MLPConfig, outputs: int = 0) -> None:
        sizes = [inputs] + [config.units] * config.layers
        hidden = [Dense(i, o, config.layer_norm) for i, o in itertools.pairwise(sizes)]
        super().__init__(*hidden, *([OutputLinear(sizes[-1], outputs)] if outputs else []))
        self.output_size = outputs or sizes[-1]
        self.reads_features = config.layers > 0 and not config.layer_norm
        """Whether the first layer can use that features are one-hot."""

    def forward(
        self, input: Float[Tensor, "*N I"] | Features, known: list[Float[Tensor, "*N O"]] | None = None
    ) -> Float[Tensor, "*N O"]:
        """Apply the layers to the last axis.

        Args:
            input: vectors.
            known: the results of the hidden layers without their gradients, if they were kept.
        """
        x = input.dense() if isinstance(input, Features) and not self.reads_features else input
        for number, layer in enumerate(self):
            x = layer(x, known[number]) if known and isinstance(layer, Dense) else layer(x)
        assert isinstance(x, Tensor)
        return x


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Keras' initialisation: glorot-uniform kernels, output layers included, and zero biases (SPEC 17).

    Layer norms keep gamma 1 and beta 0. Parameters are visited in a fixed order, so that a generator's seed
    determines all of them.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

"""Layers with the conventions of the release (Keras defaults), and values that change between updates."""

import itertools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reverie.config import MLPConfig

LAYER_NORM_EPS = 1e-3
"""Keras' default, a hundred times PyTorch's (SPEC 12)."""

Scalar = float | Tensor
"""A number, or a tensor without axes."""
ScheduledValues = Mapping[str, Scalar]
"""Values of schedules at one update by name: `kl_scale`, `free_nats` or `prior_scale`, `posterior_entropy_scale`;
`dynamics_weight`, `reinforce_weight`, `entropy_weight`; `model_lr`, `actor_lr`, `critic_lr`.

They are numbers, or tensors where an update is recorded once and replayed with other values.
"""


def is_zero(value: Scalar) -> bool:
    """Return whether a loss term of this weight can be left out. A tensor never can: its value may change."""
    return not isinstance(value, Tensor) and value == 0


def as_tensor(value: Scalar, device: torch.device) -> Tensor:
    """Return a value as a tensor on the device."""
    return value if isinstance(value, Tensor) else torch.full((), value, device=device)


def whole_mean(mean: Tensor) -> Tensor:
    """Return the mean over the whole batch, given that over the part of it in this process: the same.

    Modules that compute more with a mean than a sum of losses call this by their attribute `whole_mean`. Where several
    learners share a batch, it is replaced by an average over them (`reverie.scaling.learners`).
    """
    return mean


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return a context in which matrix products and convolutions run in `dtype` (SPEC 37)."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis, computed in float32 under autocast, too (SPEC 12, 37)."""

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=LAYER_NORM_EPS)

    def forward(self, input: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Normalise over D; the result has the input's dtype."""
        return super().forward(input.float()).to(input.dtype)


class Dense(nn.Module):
    """Linear layer, layer norm if asked for, ELU: the hidden layer of every MLP (SPEC 12, 16)."""

    def __init__(self, inputs: int, units: int, layer_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units)
        self.norm = LayerNorm(units) if layer_norm else nn.Identity()

    def forward(self, input: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """Apply the layer to the last axis."""
        return F.elu(self.norm(self.linear(input)))


class OutputLinear(nn.Linear):
    """Linear layer that is computed in float32 under autocast, too.

    Advantages are differences of much larger values: with the 8 bits of bfloat16's mantissa, a value of 64 has steps
    of 0.25 (`docs/performance.md`, "Precision").
    """

    def forward(self, input: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """Apply the layer to the last axis; the result is float32."""
        # The meta device has no autocast.
        with torch.autocast("cpu" if input.is_meta else input.device.type, enabled=False):
            return super().forward(input.float())


class MLP(nn.Sequential):
    """Dense layers, and a linear output of `outputs` entries in float32 unless that is 0 (SPEC 15)."""

    def __init__(self, inputs: int, config: MLPConfig, outputs: int = 0) -> None:
        sizes = [inputs] + [config.units] * config.layers
        hidden = [Dense(i, o, config.layer_norm) for i, o in itertools.pairwise(sizes)]
        super().__init__(*hidden, *([OutputLinear(sizes[-1], outputs)] if outputs else []))
        self.output_size = outputs or sizes[-1]


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise all weights: Glorot uniform, output layers included, and zero biases (Keras; SPEC 17).

    Layer norms keep scale 1 and shift 0. Parameters are visited in a fixed order, so that the generator's seed
    determines all of them.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

"""Kinds of stochastic state: what the RSSM's heads parametrise and how it is sampled and compared.

A kind has no parameters of its own. Its statistics are one float32 tensor, so that states of every kind look alike:
logits [S, K] for categoricals, mean and standard deviation [2, S] for Gaussians, logits [1, S] for bits.
"""

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reverie.config import RSSMConfig
from reverie.networks.distributions import (
    LOG_SQRT_2PI,
    bernoulli_entropy,
    categorical_entropy,
    draw_normal,
    draw_uniform,
    straight_through,
    straight_through_bits,
)


@runtime_checkable
class LatentKind(Protocol):
    """One kind of stochastic state."""

    size: int
    """Z: width of a flattened sample."""
    stats_shape: tuple[int, ...]
    """Shape of the statistics; their product is the width of the RSSM's heads."""

    def stats(self, raw: Tensor) -> Tensor:
        """Statistics [..., *stats_shape] from a head's output [..., width]."""

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard noise for samples of leading shape `shape`."""

    def sample(self, stats: Tensor, noise: Tensor | None) -> Tensor:
        """Sample [..., Z] with gradients; None takes the mode."""

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """KL(left || right) in nats, summed over the variables."""

    def entropy(self, stats: Tensor) -> Tensor:
        """Entropy in nats, summed over the variables."""


class Categorical:
    """S categoricals of K classes with straight-through gradients (SPEC 11)."""

    def __init__(self, variables: int, classes: int) -> None:
        self.size = variables * classes
        self.stats_shape: tuple[int, ...] = (variables, classes)

    def stats(self, raw: Float[Tensor, "*N P"]) -> Float[Tensor, "*N S K"]:
        """Raw logits: no temperature, no uniform mixture."""
        return raw.float().unflatten(-1, self.stats_shape)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*N S"]:
        """Uniform noise."""
        return draw_uniform((*shape, self.stats_shape[0]), generator)

    def sample(self, stats: Float[Tensor, "*N S K"], noise: Float[Tensor, "*N S"] | None) -> Float[Tensor, "*N Z"]:
        """S concatenated one-hot vectors."""
        return straight_through(stats, noise).flatten(-2)

    def kl(self, left: Float[Tensor, "*N S K"], right: Float[Tensor, "*N S K"]) -> Float[Tensor, "*N"]:
        """Sum p (log p - log q)."""
        log_left, log_right = left.log_softmax(-1), right.log_softmax(-1)
        return (log_left.exp() * (log_left - log_right)).sum((-2, -1))

    def entropy(self, stats: Float[Tensor, "*N S K"]) -> Float[Tensor, "*N"]:
        """Sum of the S entropies."""
        return categorical_entropy(stats).sum(-1)


class Gaussian:
    """S independent normals with reparameterised gradients, as in Dreamer (SPEC 11)."""

    def __init__(self, variables: int, std_activation: str, min_std: float) -> None:
        self.size = variables
        self.stats_shape: tuple[int, ...] = (2, variables)
        self._sigmoid = std_activation == "sigmoid2"
        self._min_std = min_std

    def stats(self, raw: Float[Tensor, "*N P"]) -> Float[Tensor, "*N 2 S"]:
        """Mean, and standard deviation above `min_std`."""
        mean, std = raw.float().chunk(2, -1)
        std = 2 * torch.sigmoid(std / 2) if self._sigmoid else F.softplus(std)
        return torch.stack([mean, std + self._min_std], -2)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*N S"]:
        """Standard normal noise."""
        return draw_normal((*shape, self.size), generator)

    def sample(self, stats: Float[Tensor, "*N 2 S"], noise: Float[Tensor, "*N S"] | None) -> Float[Tensor, "*N S"]:
        """Mean + std * noise."""
        mean, std = stats.unbind(-2)
        return mean if noise is None else mean + std * noise

    def kl(self, left: Float[Tensor, "*N 2 S"], right: Float[Tensor, "*N 2 S"]) -> Float[Tensor, "*N"]:
        """Closed form for diagonal normals."""
        (mean, std), (other_mean, other_std) = left.unbind(-2), right.unbind(-2)
        ratio = (std / other_std).square()
        distance = ((mean - other_mean) / other_std).square()
        return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)

    def entropy(self, stats: Float[Tensor, "*N 2 S"]) -> Float[Tensor, "*N"]:
        """Differential entropy."""
        return (0.5 + LOG_SQRT_2PI + stats.select(-2, 1).log()).sum(-1)


class Binary:
    """S independent bits with straight-through gradients (the article's binary latents; not in the release)."""

    def __init__(self, variables: int) -> None:
        self.size = variables
        self.stats_shape: tuple[int, ...] = (1, variables)

    def stats(self, raw: Float[Tensor, "*N P"]) -> Float[Tensor, "*N 1 S"]:
        """Raw logits of each bit being 1."""
        return raw.float().unsqueeze(-2)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*N S"]:
        """Uniform noise."""
        return draw_uniform((*shape, self.size), generator)

    def sample(self, stats: Float[Tensor, "*N 1 S"], noise: Float[Tensor, "*N S"] | None) -> Float[Tensor, "*N S"]:
        """S values of 0 or 1."""
        return straight_through_bits(stats.squeeze(-2), noise)

    def kl(self, left: Float[Tensor, "*N 1 S"], right: Float[Tensor, "*N 1 S"]) -> Float[Tensor, "*N"]:
        """Sum p (log p - log q) + (1 - p) (log(1 - p) - log(1 - q))."""
        left, right = left.squeeze(-2), right.squeeze(-2)
        p = left.sigmoid()
        ones = F.logsigmoid(left) - F.logsigmoid(right)
        zeros = F.logsigmoid(-left) - F.logsigmoid(-right)
        return (p * ones + (1 - p) * zeros).sum(-1)

    def entropy(self, stats: Float[Tensor, "*N 1 S"]) -> Float[Tensor, "*N"]:
        """Sum of the S entropies."""
        return bernoulli_entropy(stats.squeeze(-2)).sum(-1)


def make_latents(config: RSSMConfig) -> LatentKind:
    """The kind that the configuration names."""
    if config.latents == "categorical":
        return Categorical(config.stoch, config.classes)
    if config.latents == "binary":
        return Binary(config.stoch * config.classes)
    return Gaussian(config.stoch, config.std_activation, config.min_std)

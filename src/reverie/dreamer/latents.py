"""Latent distributions of the RSSM: categorical (the paper), Gaussian (Dreamer) and binary.

Each kind turns the output of an RSSM head into statistics, one float32 tensor: logits [S, K] for categoricals, mean and
standard deviation [2, S] for Gaussians, logits [1, S] for bits. Kinds have no parameters.
"""

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reverie.config import RSSMConfig
from reverie.dreamer.distributions import (
    LOG_SQRT_2PI,
    bernoulli_entropy,
    categorical_entropy,
    draw_normal,
    draw_uniform,
    straight_through,
    straight_through_bits,
)


@runtime_checkable
class Latents(Protocol):
    """Distribution of the stochastic state s_t."""

    size: int
    """Z, the width of a flattened sample."""
    stats_shape: tuple[int, ...]
    """Shape of the statistics; its product is the width of the RSSM's heads."""

    def stats(self, raw: Tensor) -> Tensor:
        """Return statistics [..., *stats_shape] from a head's output [..., width]."""

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return standard noise for samples of leading shape `shape`."""

    def sample(self, stats: Tensor, noise: Tensor | None) -> Tensor:
        """Return a sample [..., Z] with gradients; noise None takes the mode."""

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """Return KL(left || right) in nats, summed over the variables."""

    def entropy(self, stats: Tensor) -> Tensor:
        """Return the entropy in nats, summed over the variables."""


class Categorical:
    """S categoricals of K classes with straight-through gradients (SPEC 11)."""

    def __init__(self, stoch: int, classes: int) -> None:
        self.size = stoch * classes
        self.stats_shape: tuple[int, ...] = (stoch, classes)

    def stats(self, raw: Float[Tensor, "*N P"]) -> Float[Tensor, "*N S K"]:
        """Return raw logits, without temperature or uniform mixture."""
        return raw.float().unflatten(-1, self.stats_shape)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*N S"]:
        """Return uniform noise."""
        return draw_uniform((*shape, self.stats_shape[0]), generator)

    def sample(self, stats: Float[Tensor, "*N S K"], noise: Float[Tensor, "*N S"] | None) -> Float[Tensor, "*N Z"]:
        """Return S concatenated one-hot vectors."""
        return straight_through(stats, noise).flatten(-2)

    def kl(self, left: Float[Tensor, "*N S K"], right: Float[Tensor, "*N S K"]) -> Float[Tensor, "*N"]:
        """Return the sum of p (log p - log q)."""
        log_left, log_right = left.log_softmax(-1), right.log_softmax(-1)
        return (log_left.exp() * (log_left - log_right)).sum((-2, -1))

    def entropy(self, stats: Float[Tensor, "*N S K"]) -> Float[Tensor, "*N"]:
        """Return the sum of the S entropies."""
        return categorical_entropy(stats).sum(-1)


class Gaussian:
    """S independent normals with reparameterised gradients, the latents of Dreamer (SPEC 11)."""

    def __init__(self, stoch: int, std_activation: str, min_std: float) -> None:
        self.size = stoch
        self.stats_shape: tuple[int, ...] = (2, stoch)
        self._sigmoid = std_activation == "sigmoid2"
        self._min_std = min_std

    def stats(self, raw: Float[Tensor, "*N P"]) -> Float[Tensor, "*N 2 S"]:
        """Return the mean, and a standard deviation of at least `min_std`."""
        mean, std = raw.float().chunk(2, -1)
        std = 2 * torch.sigmoid(std / 2) if self._sigmoid else F.softplus(std)
        return torch.stack([mean, std + self._min_std], -2)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*N S"]:
        """Return standard normal noise."""
        return draw_normal((*shape, self.size), generator)

    def sample(self, stats: Float[Tensor, "*N 2 S"], noise: Float[Tensor, "*N S"] | None) -> Float[Tensor, "*N S"]:
        """Return mean + std * noise."""
        mean, std = stats.unbind(-2)
        return mean if noise is None else mean + std * noise

    def kl(self, left: Float[Tensor, "*N 2 S"], right: Float[Tensor, "*N 2 S"]) -> Float[Tensor, "*N"]:
        """Return the closed form for diagonal normals."""
        (mean, std), (other_mean, other_std) = left.unbind(-2), right.unbind(-2)
        ratio = (std / other_std).square()
        distance = ((mean - other_mean) / other_std).square()
        return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)

    def entropy(self, stats: Float[Tensor, "*N 2 S"]) -> Float[Tensor, "*N"]:
        """Return the differential entropy."""
        return (0.5 + LOG_SQRT_2PI + stats.select(-2, 1).log()).sum(-1)


class Binary:
    """S independent bits with straight-through gradients (the article's binary latents; not in the release)."""

    def __init__(self, stoch: int) -> None:
        self.size = stoch
        self.stats_shape: tuple[int, ...] = (1, stoch)

    def stats(self, raw: Float[Tensor, "*N P"]) -> Float[Tensor, "*N 1 S"]:
        """Return the log-odds of each bit."""
        return raw.float().unsqueeze(-2)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*N S"]:
        """Return uniform noise."""
        return draw_uniform((*shape, self.size), generator)

    def sample(self, stats: Float[Tensor, "*N 1 S"], noise: Float[Tensor, "*N S"] | None) -> Float[Tensor, "*N S"]:
        """Return S values of 0 or 1."""
        return straight_through_bits(stats.squeeze(-2), noise)

    def kl(self, left: Float[Tensor, "*N 1 S"], right: Float[Tensor, "*N 1 S"]) -> Float[Tensor, "*N"]:
        """Return the sum of p (log p - log q) + (1 - p) (log(1 - p) - log(1 - q))."""
        left, right = left.squeeze(-2), right.squeeze(-2)
        p = left.sigmoid()
        ones = F.logsigmoid(left) - F.logsigmoid(right)
        zeros = F.logsigmoid(-left) - F.logsigmoid(-right)
        return (p * ones + (1 - p) * zeros).sum(-1)

    def entropy(self, stats: Float[Tensor, "*N 1 S"]) -> Float[Tensor, "*N"]:
        """Return the sum of the S entropies."""
        return bernoulli_entropy(stats.squeeze(-2)).sum(-1)


def make_latents(config: RSSMConfig) -> Latents:
    """Return the latents that the configuration names."""
    if config.latents == "categorical":
        return Categorical(config.stoch, config.classes)
    if config.latents == "binary":
        return Binary(config.stoch * config.classes)
    return Gaussian(config.stoch, config.std_activation, config.min_std)

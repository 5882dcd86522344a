"""Distributions with the gradients of the release (golden file 05).

Sampling is deterministic given its noise: `dist.sample(noise)` transforms standard noise that the caller draws from a
generator, and `dist.sample(None)` returns the mode with the gradient of a sample.
"""

import math
from functools import cache
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_HALF = math.sqrt(0.5)


@runtime_checkable
class ActionDistribution(Protocol):
    """Distribution over actions, vectors of A entries."""

    def mode(self) -> Tensor: ...  # noqa: D102
    def sample(self, noise: Tensor | None) -> Tensor: ...  # noqa: D102
    def log_prob(self, value: Tensor) -> Tensor: ...  # noqa: D102
    def entropy(self) -> Tensor: ...  # noqa: D102


def draw_uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return uniform noise in [0, 1), for categorical and truncated normal distributions."""
    return torch.rand(shape, generator=generator, device=generator.device)


def draw_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return standard normal noise, for Gaussian and tanh-normal distributions."""
    return torch.randn(shape, generator=generator, device=generator.device)


def straight_through(logits: Float[Tensor, "*N K"], noise: Float[Tensor, "*N"] | None) -> Float[Tensor, "*N K"]:
    """Sample one-hot vectors with straight-through gradients (paper, algorithm 1).

        sample = one_hot(draw(logits)) + probs - stop_grad(probs)

    Args:
        logits: unnormalised log-probabilities of K classes.
        noise: uniform in [0, 1), turned into a class by inverting the cumulative distribution; None takes the most
            likely class.
    """
    probs = logits.softmax(-1)
    if noise is None:
        index = logits.argmax(-1)
    else:
        cumulative = probs.detach().cumsum(-1)
        # Scaled by the total, which rounding may leave different from 1: a class of probability 0 is never drawn.
        threshold = noise[..., None] * cumulative[..., -1:]
        index = (cumulative <= threshold).sum(-1).clamp_(max=logits.shape[-1] - 1)
    one_hot = F.one_hot(index, logits.shape[-1]).to(probs.dtype)
    return one_hot + (probs - probs.detach())


def categorical_entropy(logits: Float[Tensor, "*N K"]) -> Float[Tensor, "*N"]:
    """Return the entropy in nats."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def straight_through_bits(logits: Float[Tensor, "*N S"], noise: Float[Tensor, "*N S"] | None) -> Float[Tensor, "*N S"]:
    """Sample bits with straight-through gradients.

        sample = [noise < p] + p - stop_grad(p),    p = sigmoid(logits)

    Args:
        logits: log-odds of a 1.
        noise: uniform in [0, 1); None takes the more likely value, 0 where both are equally likely.
    """
    probs = logits.sigmoid()
    bits = (probs > (0.5 if noise is None else noise)).to(probs.dtype)
    return bits + (probs - probs.detach())


def bernoulli_entropy(logits: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Return the entropy of each bit in nats, -p log p - (1 - p) log(1 - p)."""
    size = logits.abs()
    return F.softplus(-size) + size * (-size).sigmoid()


class OneHot:
    """Independent categoricals, concatenated as one-hot vectors; one for each discrete action dimension.

    Args:
        logits: unnormalised log-probabilities, [..., A] with A the sum of `sizes`.
        sizes: classes of each categorical.

    Noise for `sample` is uniform, [..., len(sizes)].
    """

    def __init__(self, logits: Tensor, sizes: tuple[int, ...]) -> None:
        self.logits = logits
        self.parts = logits.split(sizes, -1)
        self.sizes = sizes

    def mode(self) -> Tensor:
        """Return the most likely class of each categorical, without gradient."""
        return self.sample(None).detach()

    def sample(self, noise: Tensor | None) -> Tensor:
        """Return one-hot samples with straight-through gradients."""
        columns = [None] * len(self.parts) if noise is None else noise.unbind(-1)
        return torch.cat([straight_through(p, n) for p, n in zip(self.parts, columns, strict=True)], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of one-hot vectors; `value` gets no gradient, as in TensorFlow Probability."""
        chosen = zip(value.detach().split(self.sizes, -1), self.parts, strict=True)
        return torch.stack([(v * p.log_softmax(-1)).sum(-1) for v, p in chosen]).sum(0)

    def entropy(self) -> Tensor:
        """Return the entropy in nats, summed over the categoricals."""
        return torch.stack([categorical_entropy(p) for p in self.parts]).sum(0)


def _cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-x * _SQRT_HALF)


def _pdf(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x.square() - LOG_SQRT_2PI)


class TruncatedNormal:
    """Independent normals truncated to [-1, 1] (SPEC 33). Noise for `sample` is uniform, [..., A]."""

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale
        self._low, self._high = (-1 - loc) / scale, (1 - loc) / scale
        self._mass = _cdf(self._high) - _cdf(self._low)

    def mode(self) -> Tensor:
        """Return the mean of the normal, which lies within the bounds."""
        return self.loc

    def sample(self, noise: Tensor | None) -> Tensor:
        """Return samples, clipped to +-(1 - 1e-6) with a straight-through gradient.

        The gradient is TensorFlow's: 1 for loc and (sample - loc) / scale for scale, with the bounds held fixed.
        """
        if noise is None:
            standard = torch.zeros_like(self.loc)
        else:
            with torch.no_grad():
                standard = torch.special.ndtri(_cdf(self._low) + noise * self._mass)
                standard = standard.clamp(self._low, self._high)
        sample = self.loc + self.scale * standard
        return sample + (sample.clamp(-1 + 1e-6, 1 - 1e-6) - sample).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density, summed over the last axis."""
        standard = (value - self.loc) / self.scale
        log_density = -0.5 * standard.square() - LOG_SQRT_2PI - self.scale.log() - self._mass.log()
        return log_density.sum(-1)

    def entropy(self) -> Tensor:
        """Return the differential entropy in nats, summed over the last axis."""
        edges = (self._low * _pdf(self._low) - self._high * _pdf(self._high)) / (2 * self._mass)
        return (0.5 + LOG_SQRT_2PI + self.scale.log() + self._mass.log() + edges).sum(-1)


class Uniform:
    """Independent uniforms in [-1, 1], [*shape, A]. Noise for `sample` is uniform in [0, 1)."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._zeros = torch.zeros(shape, device=device)

    def mode(self) -> Tensor:
        """Return the mean, zeros."""
        return self._zeros

    def sample(self, noise: Tensor | None) -> Tensor:
        """Return samples."""
        return self._zeros if noise is None else 2 * noise - 1

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density, summed over the last axis."""
        return self._zeros.sum(-1) - value.shape[-1] * math.log(2)

    def entropy(self) -> Tensor:
        """Return the differential entropy in nats, summed over the last axis."""
        return self._zeros.sum(-1) + self._zeros.shape[-1] * math.log(2)


class TanhNormal:
    """Independent normals squashed by tanh (release option `tanh_normal`). Noise for `sample` is standard normal."""

    NODES = 32

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale

    def mode(self) -> Tensor:
        """Return the squashed mean of the normal."""
        return self.loc.tanh()

    def sample(self, noise: Tensor | None) -> Tensor:
        """Return samples with reparameterised gradients."""
        return (self.loc if noise is None else self.loc + self.scale * noise).tanh()

    @staticmethod
    def _log_slope(x: Tensor) -> Tensor:
        """Return log(1 - tanh(x)^2) without cancellation."""
        return 2 * (math.log(2) - x - F.softplus(-2 * x))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density, summed over the last axis."""
        raw = value.clamp(-0.99999997, 0.99999997).atanh()
        standard = (raw - self.loc) / self.scale
        log_density = -0.5 * standard.square() - LOG_SQRT_2PI - self.scale.log() - self._log_slope(raw)
        return log_density.sum(-1)

    def entropy(self) -> Tensor:
        """Return the differential entropy in nats, summed over the last axis, by Gauss-Hermite quadrature.

        The release estimates the same integral with 100 samples.
        """
        nodes, weights = _hermite(self.NODES, self.loc.dtype, self.loc.device)
        points = self.loc[..., None] + math.sqrt(2) * self.scale[..., None] * nodes
        correction = (self._log_slope(points) * weights).sum(-1) / math.sqrt(math.pi)
        return (0.5 + LOG_SQRT_2PI + self.scale.log() + correction).sum(-1)


@cache
def _hermite(count: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of Gauss-Hermite quadrature, by the algorithm of Golub and Welsch."""
    # Cached: a copy from pageable host memory synchronises with the device.
    off_diagonal = torch.arange(1, count, dtype=torch.float64).div(2).sqrt()
    nodes, vectors = torch.linalg.eigh(off_diagonal.diag(1) + off_diagonal.diag(-1))
    weights = math.sqrt(math.pi) * vectors[0].square()
    return nodes.to(device, dtype), weights.to(device, dtype)


def unit_normal_log_prob(mean: Tensor, value: Tensor, event_dims: int) -> Tensor:
    """Return the log-density under a unit-variance normal, summed over the last `event_dims` axes (SPEC 15)."""
    log_density = -0.5 * (value - mean).square() - LOG_SQRT_2PI
    return log_density.flatten(-event_dims).sum(-1) if event_dims else log_density


def bernoulli_log_prob(logits: Tensor, value: Tensor) -> Tensor:
    """Return value * log p + (1 - value) * log(1 - p); labels may be soft (SPEC 19)."""
    return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

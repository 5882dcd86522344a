"""Distributions as the release computes them, gradients included (golden file 05).

Random draws are explicit: `dist.sample(noise)` is a deterministic function of standard noise, which the class draws
with `draw_noise(shape, generator)`. `sample(None)` takes the mode in place of a draw and keeps the sample's gradient.
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
    """What the actor's distributions have in common; events are vectors of A entries."""

    def mode(self) -> Tensor: ...  # noqa: D102
    def sample(self, noise: Tensor | None) -> Tensor: ...  # noqa: D102
    def log_prob(self, value: Tensor) -> Tensor: ...  # noqa: D102
    def entropy(self) -> Tensor: ...  # noqa: D102


def draw_uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform noise in [0, 1), the noise of categorical and truncated normal distributions."""
    return torch.rand(shape, generator=generator, device=generator.device)


def draw_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal noise, the noise of Gaussian and tanh-normal distributions."""
    return torch.randn(shape, generator=generator, device=generator.device)


def straight_through(logits: Float[Tensor, "*N K"], noise: Float[Tensor, "*N"] | None) -> Float[Tensor, "*N K"]:
    """Draw one-hot vectors whose gradient is that of the probabilities (article: `get_sample`).

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
        # Scaled by the last entry, which rounding may leave beside 1; a class of probability 0 is never chosen.
        threshold = noise[..., None] * cumulative[..., -1:]
        index = (cumulative <= threshold).sum(-1).clamp_(max=logits.shape[-1] - 1)
    one_hot = F.one_hot(index, logits.shape[-1]).to(probs.dtype)
    return one_hot + (probs - probs.detach())


def categorical_entropy(logits: Float[Tensor, "*N K"]) -> Float[Tensor, "*N"]:
    """Entropy in nats."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def straight_through_bits(logits: Float[Tensor, "*N S"], noise: Float[Tensor, "*N S"] | None) -> Float[Tensor, "*N S"]:
    """Draw bits whose gradient is that of their probabilities: `straight_through` for two classes, one of them kept.

        sample = [noise < p] + p - stop_grad(p),    p = sigmoid(logits)

    Args:
        logits: of each bit being 1.
        noise: uniform in [0, 1); None takes the likelier value, and 0 where both are equally likely.
    """
    probs = logits.sigmoid()
    bits = (probs > (0.5 if noise is None else noise)).to(probs.dtype)
    return bits + (probs - probs.detach())


def bernoulli_entropy(logits: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Entropy of each bit in nats, -p log p - (1 - p) log(1 - p), which is the same for l and -l."""
    size = logits.abs()
    return F.softplus(-size) + size * (-size).sigmoid()


class OneHot:
    """Independent categoricals as concatenated one-hot vectors; usually there is one.

    `logits` is [..., A], where A is the sum of `sizes`; noise is uniform, [..., len(sizes)].
    """

    def __init__(self, logits: Tensor, sizes: tuple[int, ...]) -> None:
        self.logits = logits
        self.parts = logits.split(sizes, -1)
        self.sizes = sizes

    def mode(self) -> Tensor:
        """The most likely class of each categorical, without gradient."""
        return self.sample(None).detach()

    def sample(self, noise: Tensor | None) -> Tensor:
        """One-hot draws with straight-through gradients."""
        columns = [None] * len(self.parts) if noise is None else noise.unbind(-1)
        return torch.cat([straight_through(p, n) for p, n in zip(self.parts, columns, strict=True)], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of one-hot vectors; no gradient flows into `value`, as in TensorFlow Probability."""
        chosen = zip(value.detach().split(self.sizes, -1), self.parts, strict=True)
        return torch.stack([(v * p.log_softmax(-1)).sum(-1) for v, p in chosen]).sum(0)

    def entropy(self) -> Tensor:
        """In nats, summed over the categoricals."""
        return torch.stack([categorical_entropy(p) for p in self.parts]).sum(0)


def _cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-x * _SQRT_HALF)


def _pdf(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x.square() - LOG_SQRT_2PI)


class TruncatedNormal:
    """Independent normals cut off at -1 and 1 (SPEC 33). Noise is uniform, [..., A]."""

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale
        self._low, self._high = (-1 - loc) / scale, (1 - loc) / scale
        self._mass = _cdf(self._high) - _cdf(self._low)

    def mode(self) -> Tensor:
        """The mean of the normal, which lies within the bounds."""
        return self.loc

    def sample(self, noise: Tensor | None) -> Tensor:
        """Draws, clipped to +-(1 - 1e-6) with a gradient that ignores the clipping.

        The gradient is TensorFlow's: 1 for loc and (sample - loc) / scale for scale, as if the bounds did not move.
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
        """Log-density, summed over the last axis."""
        standard = (value - self.loc) / self.scale
        log_density = -0.5 * standard.square() - LOG_SQRT_2PI - self.scale.log() - self._mass.log()
        return log_density.sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, summed over the last axis."""
        edges = (self._low * _pdf(self._low) - self._high * _pdf(self._high)) / (2 * self._mass)
        return (0.5 + LOG_SQRT_2PI + self.scale.log() + self._mass.log() + edges).sum(-1)


class TanhNormal:
    """Independent normals squashed by tanh (release option `tanh_normal`). Noise is standard normal, [..., A]."""

    NODES = 32

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale

    def mode(self) -> Tensor:
        """The squashed mean of the normal."""
        return self.loc.tanh()

    def sample(self, noise: Tensor | None) -> Tensor:
        """Draws with reparameterised gradients."""
        return (self.loc if noise is None else self.loc + self.scale * noise).tanh()

    @staticmethod
    def _log_slope(x: Tensor) -> Tensor:
        """log(1 - tanh(x)^2), without cancellation."""
        return 2 * (math.log(2) - x - F.softplus(-2 * x))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, summed over the last axis."""
        raw = value.clamp(-0.99999997, 0.99999997).atanh()
        standard = (raw - self.loc) / self.scale
        log_density = -0.5 * standard.square() - LOG_SQRT_2PI - self.scale.log() - self._log_slope(raw)
        return log_density.sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, summed over the last axis, by Gauss-Hermite quadrature.

        The release estimates it with 100 samples; the quadrature is what that estimate converges to.
        """
        nodes, weights = _hermite(self.NODES, self.loc.dtype, self.loc.device)
        points = self.loc[..., None] + math.sqrt(2) * self.scale[..., None] * nodes
        correction = (self._log_slope(points) * weights).sum(-1) / math.sqrt(math.pi)
        return (0.5 + LOG_SQRT_2PI + self.scale.log() + correction).sum(-1)


@cache
def _hermite(count: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the quadrature; kept, since a GPU waits for what is copied to it from ordinary memory."""
    import numpy as np

    nodes, weights = np.polynomial.hermite.hermgauss(count)
    return torch.tensor(nodes, dtype=dtype, device=device), torch.tensor(weights, dtype=dtype, device=device)


def unit_normal_log_prob(mean: Tensor, value: Tensor, event_dims: int) -> Tensor:
    """Log-density under a normal of variance 1, constant included, summed over the last `event_dims` axes (SPEC 15)."""
    log_density = -0.5 * (value - mean).square() - LOG_SQRT_2PI
    return log_density.flatten(-event_dims).sum(-1) if event_dims else log_density


def bernoulli_log_prob(logits: Tensor, value: Tensor) -> Tensor:
    """Value * log p + (1 - value) * log(1 - p); soft labels are allowed (SPEC 19)."""
    return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")


def noisy_action(
    action: Float[Tensor, "N A"], amount: float, sizes: tuple[int, ...] | None, generator: torch.Generator
) -> Float[Tensor, "N A"]:
    """Disturb actions for exploration (release: `action_noise`; zero in all of its presets).

    Args:
        action: one-hot vectors, or values in [-1, 1].
        amount: share of uniformly random choices, or standard deviation of the added noise.
        sizes: classes of each categorical; None for continuous actions.
        generator: source of the randomness.
    """
    if amount == 0:
        return action
    if sizes is None:
        return (action + amount * draw_normal(tuple(action.shape), generator)).clamp(-1, 1)
    probs = [amount / part.shape[-1] + (1 - amount) * part for part in action.split(sizes, -1)]
    noise = draw_uniform((*action.shape[:-1], len(sizes)), generator)
    return OneHot(torch.cat(probs, -1).log(), sizes).sample(noise).detach()

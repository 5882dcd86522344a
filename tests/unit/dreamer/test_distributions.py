"""Distributions against SciPy, enumeration and frequencies; tests/parity compares them with the release."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from reverie.dreamer.distributions import (
    OneHot,
    TanhNormal,
    TruncatedNormal,
    bernoulli_entropy,
    bernoulli_log_prob,
    straight_through,
    unit_normal_log_prob,
)

SIZES = (3, 2)


def one_hot(seed: int = 0) -> OneHot:
    """Return a choice of three times a choice of two, in five states."""
    return OneHot(torch.randn((5, sum(SIZES)), generator=torch.Generator().manual_seed(seed)), SIZES)


def outcomes() -> torch.Tensor:
    rows = [np.concatenate([np.eye(3)[i], np.eye(2)[j]]) for i, j in product(range(3), range(2))]
    return torch.tensor(np.array(rows, np.float32))


def test_one_hot_of_two_categoricals_is_their_product() -> None:
    """Log-probabilities sum to one over all outcomes, and give the entropy and the mode."""
    dist = one_hot()
    log_prob = torch.stack([dist.log_prob(outcome.expand(5, -1)) for outcome in outcomes()])
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(5))
    torch.testing.assert_close(dist.entropy(), -(log_prob.exp() * log_prob).sum(0))
    # The sample keeps the straight-through gradient, so that it is one-hot up to rounding.
    torch.testing.assert_close(dist.mode(), outcomes()[log_prob.argmax(0)])


def test_one_hot_log_prob_has_no_gradient_for_the_value() -> None:
    dist = one_hot()
    value = dist.mode().requires_grad_()
    logits = dist.logits.clone().requires_grad_()
    gradient = torch.autograd.grad(OneHot(logits, SIZES).log_prob(value).sum(), value, allow_unused=True)[0]
    assert gradient is None


def test_one_hot_samples_have_the_frequencies_of_each_categorical() -> None:
    dist, count = one_hot(), 20_000
    noise = torch.rand((count, 5, len(SIZES)), generator=torch.Generator().manual_seed(1))
    samples = OneHot(dist.logits.expand(count, -1, -1), SIZES).sample(noise)
    expected = torch.cat([part.softmax(-1) for part in dist.parts], -1)
    torch.testing.assert_close(samples.mean(0), expected, rtol=0, atol=0.02)


def test_straight_through_class_of_probability_zero_is_never_drawn() -> None:
    """Not for noise of exactly 0, nor of the largest number below 1."""
    logits = torch.tensor([-torch.inf, 0.0, 1.0, -torch.inf])
    edges = torch.tensor([0.0, 1 - 2**-24])
    drawn = straight_through(logits.expand(2, -1), edges).detach().round()
    assert drawn.argmax(-1).tolist() == [1, 2]


@pytest.mark.parametrize("noise", [None, 0.7])
def test_straight_through_gradient_is_that_of_the_probabilities(noise: float | None) -> None:
    logits = torch.randn((2, 4), generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.arange(4.0)
    sample = straight_through(logits, None if noise is None else torch.full((2,), noise))
    found = torch.autograd.grad((sample * weight).sum(), logits)[0]
    expected = torch.autograd.grad((logits.softmax(-1) * weight).sum(), logits)[0]
    torch.testing.assert_close(found, expected)


def test_truncated_normal_outermost_sample_is_clipped_with_its_gradient() -> None:
    """At the outermost noise the sample keeps 1e-6 away from the bounds, where its log-density is finite."""
    loc = torch.tensor([[-0.9, 0.0, 0.9]], requires_grad=True)
    scale = torch.full_like(loc, 0.3)
    for noise, bound in ((0.0, -1.0), (1.0, 1.0)):
        dist = TruncatedNormal(loc, scale)
        sample = dist.sample(torch.full_like(loc, noise))
        assert (sample.abs() < 1).all() and dist.log_prob(sample).isfinite().all()
        np.testing.assert_allclose(sample[0, [0 if bound < 0 else 2]].item(), bound * (1 - 1e-6), rtol=0, atol=1e-7)
        np.testing.assert_array_equal(torch.autograd.grad(sample.sum(), loc)[0], torch.ones_like(loc))


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 0.1), (0.3, 0.8), (-2.0, 1.5), (4.5, 0.5), (-4.9, 0.12)])
def test_tanh_normal_entropy_equals_adaptive_quadrature(loc: float, scale: float) -> None:
    """And the mean of -log p over samples."""

    def integrand(x: float) -> float:
        log_slope = -2 * np.logaddexp(x, -x) + 2 * math.log(2)
        return stats.norm.pdf(x, loc, scale) * (log_slope - stats.norm.logpdf(x, loc, scale))

    # log p(tanh x) = log N(x) - log slope, so the entropy is that of x plus the mean of log slope.
    exact, _ = integrate.quad(integrand, loc - 9 * scale, loc + 9 * scale)
    dist = TanhNormal(torch.tensor([loc]), torch.tensor([scale]))
    assert dist.entropy().item() == pytest.approx(exact, rel=1e-4, abs=1e-4)
    if abs(loc) + 4 * scale < 5:  # beyond, samples round to 1 in float32
        noise = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0))
        many = TanhNormal(dist.loc.expand(noise.shape), dist.scale.expand(noise.shape))
        log_prob = many.log_prob(many.sample(noise))
        error = log_prob.std().item() / math.sqrt(len(noise))
        assert -log_prob.mean().item() == pytest.approx(exact, abs=5 * error + 1e-4)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 0.1), (0.8, 0.5), (-1.0, 2.0)])
def test_truncated_normal_log_prob_and_entropy_are_those_of_scipy(loc: float, scale: float) -> None:
    exact = stats.truncnorm((-1 - loc) / scale, (1 - loc) / scale, loc, scale)
    dist = TruncatedNormal(torch.full((3, 1), loc), torch.full((3, 1), scale))
    value = torch.tensor([[-0.9], [0.1], [0.7]])
    np.testing.assert_allclose(dist.log_prob(value), exact.logpdf(value.numpy()[:, 0]), rtol=1e-4, atol=1e-4)
    assert dist.entropy()[0].item() == pytest.approx(exact.entropy(), rel=1e-4, abs=1e-4)


def test_unit_normal_log_prob_sums_the_event_axes() -> None:
    mean, value = (torch.randn((2, 3, 4), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    density = stats.norm.logpdf(value.numpy(), mean.numpy())
    for event_dims, axes in ((0, ()), (1, (2,)), (2, (1, 2))):
        np.testing.assert_allclose(unit_normal_log_prob(mean, value, event_dims), density.sum(axes), rtol=1e-5)


def test_bernoulli_log_prob_of_soft_labels_is_the_cross_entropy() -> None:
    logits, label = torch.tensor([-2.0, 0.0, 3.0]), torch.tensor([0.0, 0.99, 0.5])
    p = 1 / (1 + np.exp(-logits.numpy()))
    expected = label.numpy() * np.log(p) + (1 - label.numpy()) * np.log(1 - p)
    np.testing.assert_allclose(bernoulli_log_prob(logits, label), expected, rtol=1e-5)
    np.testing.assert_allclose(bernoulli_entropy(logits), stats.bernoulli.entropy(p), rtol=1e-5)

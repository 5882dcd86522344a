"""Latents: binary ones against all outcomes, which the reference does not have, and the sizes of all kinds."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie.config import RSSMConfig
from reverie.dreamer.latents import Binary, Categorical, make_latents

BITS = 4
OUTCOMES = torch.tensor(list(product((0.0, 1.0), repeat=BITS)), dtype=torch.float64)


def logits(seed: int, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn((3, 1, BITS), generator=generator, dtype=torch.float64)


def probabilities(stats: Tensor) -> Tensor:
    """Return the probabilities of all outcomes [3, 2^BITS], from those of the bits."""
    p = 1 / (1 + torch.exp(-stats))
    return (p * OUTCOMES + (1 - p) * (1 - OUTCOMES)).prod(-1)


def test_binary_entropy_and_kl_are_sums_over_all_outcomes() -> None:
    left, right = logits(0), logits(1)
    p, q = probabilities(left), probabilities(right)
    torch.testing.assert_close(p.sum(-1), torch.ones(3, dtype=torch.float64))
    kind = Binary(BITS)
    torch.testing.assert_close(kind.entropy(left), -(p * p.log()).sum(-1))
    torch.testing.assert_close(kind.kl(left, right), (p * (p.log() - q.log())).sum(-1))


def test_binary_certain_bits_have_finite_values_and_gradients() -> None:
    left = torch.tensor([[[90.0, -90.0, 0.0, 1.0]]], requires_grad=True)
    right = torch.tensor([[[-90.0, -90.0, 0.0, 1.0]]], requires_grad=True)
    kind = Binary(4)
    assert kind.kl(left, right).item() == pytest.approx(90, rel=1e-5)
    assert kind.entropy(left).item() == pytest.approx(np.log(2) + 0.5822, abs=1e-4)
    gradients = torch.autograd.grad(kind.kl(left, right).sum() + kind.entropy(left).sum(), [left, right])
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_binary_gradients_equal_differences() -> None:
    inputs = [logits(seed).requires_grad_() for seed in (0, 1)]
    kind = Binary(BITS)
    assert torch.autograd.gradcheck(kind.kl, inputs)
    assert torch.autograd.gradcheck(kind.entropy, inputs[:1])


def test_binary_samples_have_their_frequencies_and_the_gradient_of_the_probabilities() -> None:
    stats = logits(3)[0].requires_grad_()
    kind = Binary(BITS)
    noise = torch.rand((100_000, BITS), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sample = kind.sample(stats.expand(100_000, 1, BITS), noise)
    assert set(sample.detach().round(decimals=9).unique().tolist()) == {0.0, 1.0}
    p = 1 / (1 + torch.exp(-stats.detach()))
    torch.testing.assert_close(sample.mean(0, keepdim=True), p, atol=0.01, rtol=0)
    weights = torch.arange(1.0, BITS + 1, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((kind.sample(stats, noise[0]) * weights).sum(), stats)
    torch.testing.assert_close(gradient, weights * p * (1 - p))


def test_binary_mode_is_the_likelier_value() -> None:
    stats = torch.tensor([[-0.1, 0.1, 0.0]])
    assert Binary(3).sample(stats, None).tolist() == [0.0, 1.0, 0.0]


def test_binary_bit_equals_a_categorical_of_two_classes() -> None:
    left, right = logits(4), logits(5)
    two = Categorical(BITS, 2)

    def pairs(stats: Tensor) -> Tensor:
        return torch.stack([stats.squeeze(1), torch.zeros_like(stats.squeeze(1))], -1)

    torch.testing.assert_close(Binary(BITS).kl(left, right), two.kl(pairs(left), pairs(right)))
    torch.testing.assert_close(Binary(BITS).entropy(left), two.entropy(pairs(left)))


@pytest.mark.parametrize(("kind", "size"), [("categorical", 15), ("binary", 15), ("gaussian", 3)])
def test_latents_of_each_kind_have_their_sizes(kind: str, size: int) -> None:
    latents = make_latents(RSSMConfig(latents=kind, stoch=3, classes=5))
    raw = torch.randn((2, int(np.prod(latents.stats_shape))))
    stats = latents.stats(raw)
    noise = latents.draw_noise((2,), torch.Generator().manual_seed(0))
    assert latents.size == size
    assert stats.shape == (2, *latents.stats_shape)
    assert latents.sample(stats, noise).shape == (2, size)
    assert latents.kl(stats, stats).abs().max() < 1e-6

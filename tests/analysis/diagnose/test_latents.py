"""Statistics of the latents against numbers by hand and slower sums."""

import math

import pytest
import torch
from torch import Tensor

from reverie.analysis.diagnose.statistics import class_probabilities, information, measure_latents, one_by_one
from reverie.dreamer.latents import Categorical, Gaussian


class Binary:
    """S bits; statistics are their logits, [1, S]."""

    def __init__(self, variables: int) -> None:
        self.size = variables
        self.stats_shape: tuple[int, ...] = (1, variables)

    def stats(self, raw: Tensor) -> Tensor:
        return raw.unsqueeze(-2)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand((*shape, self.size), generator=generator)

    def sample(self, stats: Tensor, noise: Tensor | None) -> Tensor:
        return (stats.squeeze(-2).sigmoid() > (0.5 if noise is None else noise)).float()

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        q, p = left.squeeze(-2).sigmoid(), right.squeeze(-2).sigmoid()
        return (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).sum(-1)

    def entropy(self, stats: Tensor) -> Tensor:
        q = stats.squeeze(-2).sigmoid()
        return -(q * q.log() + (1 - q) * (1 - q).log()).sum(-1)


def logits(*probabilities: list[list[float]]) -> Tensor:
    """Statistics [N, S, K]."""
    return torch.tensor(probabilities).clamp(min=1e-12).log()


def test_categoricals_by_hand() -> None:
    # Two variables of four classes over two steps. The first is one of two classes, known for certain, and a surprise
    # each time; the second is always what the prior says.
    prior = logits(*[[[0.5, 0.5, 0, 0], [0.25] * 4]] * 2)
    posterior = logits([[1, 0, 0, 0], [0.25] * 4], [[0, 1, 0, 0], [0.25] * 4])
    found = measure_latents(Categorical(2, 4), posterior, prior)
    assert (found.variables, found.classes) == (2, 4)
    assert found.kl == pytest.approx(math.log(2), abs=1e-5)
    assert found.kl_per_variable == pytest.approx([math.log(2), 0], abs=1e-5)
    assert found.unused_variables == 1
    assert found.posterior_entropy == pytest.approx(math.log(4), abs=1e-5)
    assert found.prior_entropy == pytest.approx(math.log(2) + math.log(4), abs=1e-5)
    assert found.posterior_entropy_share == pytest.approx(0.5, abs=1e-5)
    assert found.prior_entropy_share == pytest.approx(0.75, abs=1e-5)
    # One bit, all of it in the first variable.
    assert found.information == pytest.approx(math.log(2), abs=1e-5)
    assert found.unused_classes == 2  # the last two of the first variable


def test_a_class_is_unused_below_a_tenth_of_its_even_share() -> None:
    posterior = logits([[0.92, 0.03, 0.03, 0.02]])  # an even share is 0.25
    assert measure_latents(Categorical(1, 4), posterior, posterior).unused_classes == 1


@pytest.mark.parametrize("kind", [Categorical(3, 5), Gaussian(6, "softplus", 0.1), Binary(6)])
def test_parts_add_up_to_the_whole(kind: Categorical | Gaussian | Binary) -> None:
    generator = torch.Generator().manual_seed(0)
    width = math.prod(kind.stats_shape)
    left, right = (kind.stats(torch.randn(7, width, generator=generator)) for _ in range(2))
    assert kind.kl(one_by_one(kind, left), one_by_one(kind, right)).sum(-1).allclose(kind.kl(left, right), atol=1e-5)
    assert kind.entropy(one_by_one(kind, left)).sum(-1).allclose(kind.entropy(left), atol=1e-5)
    found = measure_latents(kind, left, right)
    assert found.kl == pytest.approx(kind.kl(left, right).mean().item(), rel=1e-5)
    assert sum(found.kl_per_variable) == pytest.approx(found.kl, rel=1e-5)
    assert 0 <= found.information <= len(found.kl_per_variable) * 5


def test_gaussians_have_no_classes_and_a_bounded_information() -> None:
    # Means of +-1 with a standard deviation of 0.1: variance of the mixture 1.01.
    stats = torch.tensor([[[1.0], [0.1]], [[-1.0], [0.1]]])
    kind = Gaussian(1, "softplus", 0.01)
    found = measure_latents(kind, stats, stats)
    assert found.classes == 0 and math.isnan(found.unused_classes) and math.isnan(found.posterior_entropy_share)
    assert found.kl == pytest.approx(0, abs=1e-6)
    assert found.information == pytest.approx(0.5 * math.log(1.01 / 0.01), abs=1e-5)


def test_bits_have_two_classes() -> None:
    stats = torch.tensor([[[20.0, 0.0]], [[-20.0, 0.0]]])
    kind = Binary(2)
    probabilities = class_probabilities(kind, stats)
    assert probabilities is not None and probabilities.shape == (2, 2, 2)
    assert probabilities[0].allclose(torch.tensor([[0.0, 1.0], [0.5, 0.5]]), atol=1e-6)
    found = information(kind, stats.double())
    assert found.tolist() == pytest.approx([math.log(2), 0], abs=1e-6)

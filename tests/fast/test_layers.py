"""Layers of the fast path against the plain PyTorch that their docstrings name, forward and backward."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.config import OptimizerConfig
from reverie.fast import kernels
from reverie.fast.convolutions import conv_elu, deconv
from reverie.fast.dense import dense_elu
from reverie.fast.features import Features, one_hot_index
from reverie.networks.optimizer import Optimizer
from tests.helpers.precisions import both_precisions, close, in_precision

pytestmark = pytest.mark.skipif(kernels.load() is None, reason="no C compiler here")


def compare(dtype: torch.dtype, fast: Tensor, plain: Tensor, leaves: list[Tensor]) -> None:
    """Values, and gradients of a random function of them."""
    close(fast, plain, dtype)
    direction = torch.randn(plain.shape)
    ours = torch.autograd.grad((fast.float() * direction).sum(), leaves)
    expected = torch.autograd.grad((plain * direction).sum(), leaves)
    for one, other in zip(ours, expected, strict=True):
        assert one.dtype == torch.float32
        close(one, other, dtype)


@both_precisions
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_dense(dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(rows)
    layer, x = nn.Linear(19, 83), torch.randn(rows, 2, 19, requires_grad=True)
    nn.init.normal_(layer.bias)
    with in_precision(dtype):
        y = dense_elu(x, layer)
    assert y.dtype == dtype
    compare(dtype, y, F.elu(F.linear(x, layer.weight, layer.bias)), [x, layer.weight, layer.bias])


@both_precisions
@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(1, 6, 4, stride=2), 64),
        (nn.Conv2d(6, 5, 4, stride=2), 14),
        (nn.Conv2d(6, 12, 4, stride=2), 6),
        (nn.ConvTranspose2d(24, 6, 5, stride=2), 1),
        (nn.ConvTranspose2d(8, 6, 5, stride=2), 5),
        (nn.ConvTranspose2d(6, 3, 6, stride=2), 13),
        (nn.Conv2d(1, 16, 4, stride=2), 64),
        (nn.Conv2d(16, 24, 4, stride=2), 31),
        (nn.ConvTranspose2d(24, 16, 5, stride=2), 5),
        (nn.ConvTranspose2d(16, 8, 6, stride=2), 13),
    ],
    ids=[
        *("first", "middle", "to-few-pixels", "from-one-pixel", "transposed-odd", "transposed-even"),
        *("first-of-16", "middle-of-16", "transposed-odd-of-16", "transposed-even-of-16"),
    ],
)
def test_convolutions(dtype: torch.dtype, layer: nn.Conv2d | nn.ConvTranspose2d, size: int) -> None:
    torch.manual_seed(size)
    x = torch.randn(3, size, size, layer.in_channels, requires_grad=True)
    with in_precision(dtype):
        y = conv_elu(x, layer, nn.Identity())
    plain = F.elu(layer(x.movedim(-1, 1))).movedim(1, -1)
    compare(dtype, y, plain, [x, layer.weight, layer.bias])


@both_precisions
@pytest.mark.parametrize(("inputs", "channels"), [(6, 1), (6, 3), (16, 1), (16, 3)])
def test_last_deconvolution(dtype: torch.dtype, inputs: int, channels: int) -> None:
    torch.manual_seed(channels)
    layer, x = nn.ConvTranspose2d(inputs, channels, 6, stride=2), torch.randn(2, 30, 30, inputs, requires_grad=True)
    with in_precision(dtype):
        y = deconv(x, layer)
    compare(dtype, y, layer(x.movedim(-1, 1)).movedim(1, -1), [x, layer.weight, layer.bias])


@both_precisions
@pytest.mark.parametrize("units", [200, 64, 13])
def test_dense_of_features(dtype: torch.dtype, units: int) -> None:
    """One-hot features given by their ones cost no product, and give the same layer."""
    torch.manual_seed(units)
    sizes, deter = (5, 5, 5, 3), 6
    layer = nn.Linear(sum(sizes) + deter, units)
    stoch = torch.cat([F.one_hot(torch.randint(0, size, (40, 3)), size) for size in sizes], -1).float()
    features = Features(one_hot_index(stoch, sizes), torch.randn(40, 3, deter).to(dtype), sum(sizes))
    assert torch.equal(features.dense()[..., : sum(sizes)], stoch)
    with in_precision(dtype):
        y = dense_elu(features, layer)
    plain = F.elu(F.linear(features.dense(), layer.weight, layer.bias))
    compare(dtype, y, plain, [layer.weight, layer.bias])


def test_a_layer_sees_its_weights_change() -> None:
    """Copies in bfloat16 are kept for as long as the weights stay as they are, and no longer."""
    layer, x = nn.Linear(4, 8), torch.randn(5, 4)
    with in_precision(torch.bfloat16), torch.no_grad():
        before = dense_elu(x, layer)
        layer.weight.mul_(-1)
        after = dense_elu(x, layer)
        back = dense_elu(-x, layer)
    close(back, F.elu(F.linear(-x, layer.weight, layer.bias)), torch.bfloat16)
    assert not torch.equal(before, after)


def test_what_is_not_finite_stays_so() -> None:
    """A diverged run has to be noticed."""
    layer, x = nn.Linear(4, 32), torch.randn(5, 4)
    with torch.no_grad():
        layer.bias[3] = float("nan")
        layer.bias[4] = float("inf")
        y = dense_elu(x, layer)
    assert y[:, 3].isnan().all() and y[:, 4].isinf().all() and y[:, 5:].isfinite().all()


def test_an_update_counts_as_a_change() -> None:
    """PyTorch's fused Adam does not; copies of the weights would then be those of an earlier update."""
    layer = nn.Linear(3, 2)
    optimizer = Optimizer([layer], OptimizerConfig(lr=1e-2, weight_decay=0.0, weight_decay_on="kernels"))
    versions = [parameter._version for parameter in layer.parameters()]
    optimizer.step(layer(torch.ones(1, 3)).sum(), optimizer.advance(0))
    for parameter, version in zip(layer.parameters(), versions, strict=True):
        assert parameter._version > version


def test_weights_in_bfloat16_are_left_to_pytorch() -> None:
    """The loops read biases as float32."""
    layer, x = nn.Linear(4, 32).bfloat16(), torch.randn(5, 4).bfloat16()
    assert torch.equal(dense_elu(x, layer), F.elu(layer(x)))
    conv, image = nn.Conv2d(3, 4, 4, stride=2).bfloat16(), torch.randn(2, 14, 14, 3).bfloat16()
    assert torch.equal(conv_elu(image, conv, nn.Identity()), F.elu(conv(image.movedim(-1, 1))).movedim(1, -1))

"""Fast layers against the plain ones, forward and backward, in both precisions."""

import pytest
import torch
from torch import Tensor, nn

from reverie.config import MLPConfig
from reverie.dreamer.encoder_decoder import ConvLayer
from reverie.dreamer.layers import MLP, Dense
from reverie.kernels import library
from reverie.kernels.convolutions import FastConvLayer
from reverie.kernels.dense import FastDense, FastMLP
from reverie.kernels.features import HiddenLayers, versions
from tests.helpers.features import make_features
from tests.helpers.precisions import both_precisions, close, in_precision

pytestmark = pytest.mark.skipif(library.load() is None, reason="no C compiler here")


def compare(dtype: torch.dtype, layer: nn.Module, fast: type, x: Tensor) -> None:
    """Assert that a layer computes the same as a fast one: values, and gradients of a random function of them."""
    plain = type(layer)
    leaves = [*([x] if x.requires_grad else []), *layer.parameters()]
    expected = layer(x)
    layer.__class__ = fast
    with in_precision(dtype):
        result = layer(x)
    layer.__class__ = plain
    assert result.dtype == dtype
    close(result, expected, dtype)
    direction = torch.randn(expected.shape)
    gradients, expected_gradients = (
        torch.autograd.grad((y.float() * direction).sum(), leaves) for y in (result, expected)
    )
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert one.dtype == torch.float32
        close(one, other, dtype)


@both_precisions
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_fast_dense_matches_dense(dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(rows)
    layer = Dense(19, 83, layer_norm=False)
    nn.init.normal_(layer.linear.bias)
    compare(dtype, layer, FastDense, torch.randn(rows, 2, 19, requires_grad=True))


@both_precisions
@pytest.mark.parametrize("units", [200, 64, 13])
def test_fast_dense_of_sparse_features_matches_dense(dtype: torch.dtype, units: int) -> None:
    torch.manual_seed(units)
    layer = Dense(16, units, layer_norm=False)
    nn.init.normal_(layer.linear.bias)
    compare(dtype, layer, FastDense, make_features()[0])


@both_precisions
def test_fast_mlp_with_known_hidden_layers_matches_mlp(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mlp = MLP(16, MLPConfig(layers=2, units=24), outputs=3)
    features, _ = make_features()
    for layer in list(mlp)[:-1]:
        layer.__class__ = FastDense
    mlp.__class__ = FastMLP
    with in_precision(dtype):
        hidden = [mlp[0](features[:-1])]
        hidden.append(mlp[1](hidden[0]))
        known = HiddenLayers(mlp, versions(mlp), [layer.detach() for layer in hidden])
        features = make_features(known)[0][:-1]
        leaves = list(mlp.parameters())
        results = []
        for x in (features, make_features()[0][:-1]):
            y = mlp(x)
            results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@both_precisions
@pytest.mark.parametrize(
    ("conv", "size"),
    [
        pytest.param(nn.Conv2d(1, 6, 4, stride=2), 64, id="first"),
        pytest.param(nn.Conv2d(6, 5, 4, stride=2), 14, id="middle"),
        pytest.param(nn.Conv2d(6, 12, 4, stride=2), 6, id="to few pixels"),
        pytest.param(nn.ConvTranspose2d(24, 6, 5, stride=2), 1, id="from one pixel"),
        pytest.param(nn.ConvTranspose2d(8, 6, 5, stride=2), 5, id="transposed odd"),
        pytest.param(nn.ConvTranspose2d(6, 3, 6, stride=2), 13, id="transposed even"),
        pytest.param(nn.Conv2d(1, 16, 4, stride=2), 64, id="first, 16 channels"),
        pytest.param(nn.Conv2d(16, 24, 4, stride=2), 31, id="middle, 16 channels"),
        pytest.param(nn.ConvTranspose2d(24, 16, 5, stride=2), 5, id="transposed odd, 16 channels"),
        pytest.param(nn.ConvTranspose2d(16, 8, 6, stride=2), 13, id="transposed even, 16 channels"),
    ],
)
def test_fast_conv_layer_matches_conv_layer(
    dtype: torch.dtype, conv: nn.Conv2d | nn.ConvTranspose2d, size: int
) -> None:
    torch.manual_seed(size)
    layer = ConvLayer(conv, layer_norm=False, activation="elu")
    assert FastConvLayer.is_applicable(layer)
    compare(dtype, layer, FastConvLayer, torch.randn(3, size, size, conv.in_channels, requires_grad=True))


@both_precisions
@pytest.mark.parametrize(("inputs", "channels"), [(6, 1), (6, 3), (16, 1), (16, 3)])
def test_fast_conv_layer_without_activation_matches_conv_layer(dtype: torch.dtype, inputs: int, channels: int) -> None:
    torch.manual_seed(channels)
    layer = ConvLayer(nn.ConvTranspose2d(inputs, channels, 6, stride=2), layer_norm=False, activation="none")
    assert FastConvLayer.is_applicable(layer)
    compare(dtype, layer, FastConvLayer, torch.randn(2, 30, 30, inputs, requires_grad=True))


def test_fast_dense_after_change_of_weight_reads_new_weight() -> None:
    layer, x = Dense(4, 8, layer_norm=False), torch.randn(5, 4)
    layer.__class__ = FastDense
    with in_precision(torch.bfloat16), torch.no_grad():
        before = layer(x)
        layer.linear.weight.mul_(-1)
        after = layer(x)
        again = layer(-x)
    assert not torch.equal(before, after)
    close(again, before, torch.bfloat16)


def test_fast_dense_of_nonfinite_bias_is_nonfinite() -> None:
    layer, x = Dense(4, 32, layer_norm=False), torch.randn(5, 4)
    layer.__class__ = FastDense
    with torch.no_grad():
        layer.linear.bias[3] = float("nan")
        layer.linear.bias[4] = float("inf")
        y = layer(x)
    assert y[:, 3].isnan().all() and y[:, 4].isinf().all() and y[:, 5:].isfinite().all()


def test_fast_layers_in_other_dtypes_are_plain() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        dense, x = Dense(4, 32, layer_norm=False).to(dtype), torch.randn(5, 4).to(dtype)
        conv = ConvLayer(nn.Conv2d(3, 4, 4, stride=2), layer_norm=False, activation="elu").to(dtype)
        image = torch.randn(2, 14, 14, 3).to(dtype)
        for layer, fast, value in ((dense, FastDense, x), (conv, FastConvLayer, image)):
            expected = layer(value)
            layer.__class__ = fast
            assert torch.equal(layer(value), expected)

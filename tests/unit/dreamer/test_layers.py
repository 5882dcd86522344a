"""Layers with the release's conventions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reverie.config import MLPConfig
from reverie.dreamer import Dreamer
from reverie.dreamer.layers import MLP, Dense, LayerNorm, OutputLinear, as_tensor, initialize, is_zero
from reverie.specs import EnvSpec
from tests.helpers.agents import CONTINUOUS, DICT, tiny


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_dense_is_linear_norm_elu(layer_norm: bool) -> None:
    layer, x = Dense(5, 4, layer_norm), 3 * draw(2, 3, 5)
    y = x @ layer.linear.weight.T + layer.linear.bias
    if layer_norm:
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(layer(x), torch.where(y > 0, y, y.exp() - 1))


def test_layer_norm_under_autocast_computes_in_float32() -> None:
    """Its result has the input's dtype, and no more error than its rounding."""
    norm, x = LayerNorm(64), (1000 + draw(3, 64)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, F.layer_norm(x.float(), (64,), eps=1e-3).bfloat16())


def test_output_linear_under_autocast_keeps_float32_values() -> None:
    """A value of 64 in bfloat16 has steps of 0.5."""
    layer, x = OutputLinear(16, 3), draw(5, 16).bfloat16()
    nn.init.constant_(layer.bias, 64.0)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    expected = x.double() @ layer.weight.double().T + 64
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("layers", "outputs", "size"), [(0, 0, 6), (0, 2, 2), (2, 0, 5), (2, 2, 2)])
def test_mlp_of_layers_and_outputs_has_its_size(layers: int, outputs: int, size: int) -> None:
    mlp = MLP(6, MLPConfig(layers=layers, units=5), outputs)
    assert mlp.output_size == size and mlp(draw(3, 6)).shape == (3, size)
    assert [type(layer) for layer in mlp] == [Dense] * layers + [OutputLinear] * bool(outputs)


def test_initialize_weights_are_glorot_uniform_and_biases_zero() -> None:
    """Output layers included; no layer is special, and layer norms are the identity."""
    agent = Dreamer(tiny(world_model__rssm__layer_norm=True), EnvSpec(DICT, CONTINUOUS))
    for name, module in agent.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            weight = module.weight
            fans = weight[0, 0].numel() * (weight.shape[0] + weight.shape[1])
            limit = (6 / fans) ** 0.5
            assert weight.abs().max() <= limit, name
            # The largest of n uniform values exceeds this with a probability of all but 1e-9.
            assert weight.abs().max() > limit * 1e-9 ** (1 / weight.numel()), name
            assert (module.bias == 0).all(), name


def test_initialize_same_seed_gives_the_same_weights() -> None:
    one, same, other = (MLP(4, MLPConfig(layers=2, units=3)) for _ in range(3))
    for mlp, seed in ((one, 1), (same, 1), (other, 2)):
        initialize(mlp, torch.Generator().manual_seed(seed))
    assert torch.equal(one[1].linear.weight, same[1].linear.weight)
    assert not torch.equal(one[1].linear.weight, other[1].linear.weight)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, True), (0.1, False), (torch.zeros(()), False), (torch.ones(()), False)]
)
def test_is_zero_is_true_for_the_number_only(value: float | torch.Tensor, expected: bool) -> None:
    """A tensor may change its value after an update is recorded."""
    assert is_zero(value) == expected


def test_as_tensor_of_number_or_tensor_is_a_scalar_tensor() -> None:
    tensor = torch.ones(())
    assert as_tensor(tensor, torch.device("cpu")) is tensor
    assert torch.equal(as_tensor(0.5, torch.device("cpu")), torch.tensor(0.5))

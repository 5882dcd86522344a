"""Sparse features behave like the tensor of the same values."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.kernels.features import HiddenLayers, SparseFeatures, versions
from tests.helpers.features import ROWS, STEPS, make_features


def test_sparse_features_describe_themselves_as_a_float32_tensor() -> None:
    features, dense = make_features()
    assert isinstance(features, Tensor)
    assert features.shape == dense.shape and features.size(-1) == dense.size(-1)
    assert (features.dtype, features.ndim, len(features)) == (torch.float32, 3, STEPS)
    assert not features.requires_grad and features.device.type == "cpu"


@pytest.mark.parametrize("part", [slice(None, -1), slice(1, 3), slice(None), slice(0, 4, 2)], ids=str)
def test_sparse_features_sliced_or_detached_stay_sparse(part: slice) -> None:
    features, dense = make_features()
    result = features[part].detach()
    assert isinstance(result, SparseFeatures)
    assert torch.equal(result.dense(), dense[part])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1,
        lambda x: 2 * x,
        lambda x: x.flatten(0, 1),
        lambda x: x[0],
        lambda x: x[:, 1:],
        lambda x: torch.cat([x, x], -1),
        lambda x: x.to(torch.bfloat16),
        lambda x: x.float(),
        lambda x: x.cpu(),
        lambda x: torch.from_numpy(x.numpy().copy()),
        lambda x: F.linear(x, torch.ones(2, 16)),
        lambda x: torch.ops.aten.add.Tensor(x, x),
    ],
    ids=["add", "mul", "flatten", "index", "columns", "cat", "cast", "float", "cpu", "numpy", "linear", "aten"],
)
def test_sparse_features_in_any_operation_are_the_dense_tensor(function: Callable[[Tensor], Tensor]) -> None:
    features, dense = make_features()
    torch.testing.assert_close(features, dense, rtol=0, atol=0)
    result = function(features)
    assert not isinstance(result, SparseFeatures)
    assert torch.equal(result, function(dense))


def test_linear_of_sparse_features_has_the_gradient_of_the_dense_tensor() -> None:
    features, dense = make_features()
    layer = nn.Linear(16, 3)
    ours, expected = (torch.autograd.grad(layer(x).square().sum(), layer.weight)[0] for x in (features, dense))
    torch.testing.assert_close(ours, expected)


def test_hidden_layers_follow_slices_from_the_start_only() -> None:
    owner = nn.Linear(2, 2)
    layer = torch.randn(STEPS - 1, ROWS, 7)
    features, _ = make_features(HiddenLayers(owner, versions(owner), [layer]))
    known = features[:-2].detach().hidden_layers(owner)
    assert known is not None and torch.equal(known[0], layer[:2])
    assert features[1:].hidden_layers(owner) is None
    assert features[:].hidden_layers(owner) is None, "of the last state they are unknown"


def test_hidden_layers_of_another_owner_or_older_weights_are_not_used() -> None:
    owner, other = nn.Linear(2, 2), nn.Linear(2, 2)
    hidden = HiddenLayers(owner, versions(owner), [torch.randn(STEPS - 1, ROWS, 7)])
    features = make_features(hidden)[0][:-1]
    assert features.hidden_layers(owner) is not None
    assert features.hidden_layers(other) is None
    with torch.no_grad():
        owner.weight.mul_(2)
    assert features.hidden_layers(owner) is None

"""Comparisons of one computation in two precisions."""

import pytest
import torch
from torch import Tensor

CLOSE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}
"""Largest difference, as a share of the largest entry."""
both_precisions = pytest.mark.parametrize("dtype", CLOSE, ids=str)


def close(ours: Tensor, plain: Tensor, dtype: torch.dtype) -> None:
    """Assert that two tensors agree as well as `dtype` allows."""
    assert ours.shape == plain.shape
    difference = (ours.double() - plain.double()).abs().max()
    assert difference <= CLOSE[dtype] * plain.double().abs().max(), difference


def in_precision(dtype: torch.dtype) -> torch.autocast:
    """Return autocast to bfloat16, switched off for float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)

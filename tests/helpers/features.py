"""Sparse features of random states."""

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.kernels.features import HiddenLayers, SparseFeatures, one_hot_index

STEPS, ROWS, VARIABLES, CLASSES, DETER = 4, 3, 2, 5, 6


def make_features(hidden: HiddenLayers | None = None) -> tuple[SparseFeatures, Tensor]:
    """Return sparse features [4, 3, 16] and an ordinary tensor of the same values."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, CLASSES, (STEPS, ROWS, VARIABLES), generator=generator)
    stoch = F.one_hot(classes, CLASSES).float().flatten(-2)
    deter = torch.randn((STEPS, ROWS, DETER), generator=generator)
    features = SparseFeatures(one_hot_index(stoch, VARIABLES), deter, VARIABLES * CLASSES, hidden)
    return features, torch.cat([stoch, deter], -1)

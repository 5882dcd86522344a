"""The recurrent cell of the RSSM."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.networks.layers import LayerNorm

UPDATE_BIAS = -1.0
"""Added to the update gate, so that an untrained cell mostly keeps its state."""


class GRUCell(nn.Module):
    """A GRU with one joint layer norm over its three gates (SPEC 10; golden file 02).

        reset, cand, update = split(norm(W [x, h] + b))
        cand   = tanh(sigmoid(reset) * cand)
        update = sigmoid(update - 1)
        h'     = update * cand + (1 - update) * h

    Two things differ from the textbook GRU: the reset gate multiplies the candidate's whole pre-activation instead of
    the state, and the update gate opens towards the candidate.
    """

    def __init__(self, inputs: int, size: int, layer_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs + size, 3 * size)
        self.norm = LayerNorm(3 * size) if layer_norm else nn.Identity()

    def forward(self, x: Float[Tensor, "*N I"], state: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """One step; the gates and the new state are float32 in every precision."""
        gates = self.norm(self.linear(torch.cat([x, state.to(x.dtype)], -1)).float())
        reset, candidate, update = gates.chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update + UPDATE_BIAS)
        return update * candidate + (1 - update) * state

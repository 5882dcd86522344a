"""Storage of a policy's weights in the precision of its products."""

import torch
from torch import nn

from reverie.dreamer.recurrent_policy import RecurrentPolicy


def store_weights(policy: RecurrentPolicy) -> None:
    """Convert the weights of linear layers and convolutions to the policy's precision, channels-last for convolutions.

    Autocast would convert them for each decision, which takes up to a third of its time. The policy has to be a clone:
    one that shares its weights with an agent is left as it is.
    """
    if any(parameter.requires_grad for parameter in policy.parameters()):
        return
    for layer in policy.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layout = torch.channels_last if isinstance(layer, nn.Conv2d) else torch.contiguous_format
            weight = layer.weight.detach().to(policy.dtype, memory_format=layout)
            layer.weight = nn.Parameter(weight, requires_grad=False)

"""The optimizer's update as one kernel over all parameters."""

import torch
from torch import Tensor

from reverie.dreamer.layers import Scalar
from reverie.dreamer.optimizer import BETA1, BETA2, Optimizer

CORRECTED = 1e9
"""Count of steps at which the bias correction of PyTorch's Adam is 1."""


class FusedAdam(Optimizer):
    """`Optimizer` by `torch._fused_adam_`, which reads nothing from the device, so that a graph can record it.

    PyTorch adds epsilon after the bias correction of sqrt(v). Here the kernel gets a count of steps at which its
    correction is 1, and the learning rate contains the correction, as in the release's Adam.
    """

    def apply(self, gradients: list[Tensor], norm: Tensor, lr: Scalar, is_valid: Tensor) -> None:
        """Clip, decay, and update parameters and moments, see `Optimizer.apply`."""
        limit = self.config.max_grad_norm
        if limit:
            torch._foreach_mul_(gradients, limit / norm.clamp(min=limit))
        torch._foreach_mul_(self.decayed, torch.where(is_valid, 1 - self.config.weight_decay, 1.0))
        n = self.num_steps
        rate = lr * (1 - BETA2**n).sqrt() / (1 - BETA1**n)
        # The kernel assumes one layout; gradients of convolutions may be channels-last.
        gradients = [
            gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
            for parameter, gradient in zip(self.parameters, gradients, strict=True)
        ]
        count = torch.full((), CORRECTED, device=norm.device)
        torch._fused_adam_(
            self.parameters,
            gradients,
            self.exp_avg,
            self.exp_avg_sq,
            [],
            [count] * len(self.parameters),
            lr=rate.float(),
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=0.0,
            eps=self.config.eps,
            amsgrad=False,
            maximize=False,
            found_inf=(~is_valid).float(),
        )
        # The kernel does not change the versions, by which `operations.derive` finds out about new values.
        torch.autograd.graph.increment_version(self.parameters)

"""Lambda-returns written out."""

import torch
from torch import Tensor


def brute_force_return(reward: Tensor, value: Tensor, discount: Tensor, bootstrap: Tensor, lambda_: float) -> Tensor:
    """Return every state's n-step returns in their mixture: (1 - lambda) lambda^(n-1), the rest for the longest one."""
    values = [*value, bootstrap]
    steps = len(reward)
    result = []
    for t in range(steps):
        total = torch.zeros_like(bootstrap)
        for n in range(1, steps - t + 1):
            n_step, factor = torch.zeros_like(bootstrap), torch.ones_like(bootstrap)
            for k in range(t, t + n):
                n_step = n_step + factor * reward[k]
                factor = factor * discount[k]
            n_step = n_step + factor * values[t + n]
            share = lambda_ ** (n - 1) * (1 if n == steps - t else 1 - lambda_)
            total = total + share * n_step
        result.append(total)
    return torch.stack(result)

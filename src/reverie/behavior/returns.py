"""The lambda-return."""

import torch
from jaxtyping import Float
from torch import Tensor


def lambda_return(
    reward: Float[Tensor, "H *N"],
    value: Float[Tensor, "H *N"],
    discount: Float[Tensor, "H *N"],
    bootstrap: Float[Tensor, "*N"],
    lambda_: float,
) -> Float[Tensor, "H *N"]:
    """Mixture of all n-step returns (article, critic loss; SPEC 28; golden file 01).

        V_t = r_t + g_t * ((1 - lambda) * v_{t+1} + lambda * V_{t+1}),   V_H = v_H = bootstrap

    Args:
        reward: r_t, received on arriving in state t.
        value: v_t.
        discount: g_t, the discount factor of state t.
        bootstrap: v_H, the value after the last step.
        lambda_: 0 is the one-step return, 1 the full Monte Carlo return with bootstrap.
    """
    next_value = torch.cat([value[1:], bootstrap[None]])
    one_step = reward + discount * (1 - lambda_) * next_value
    returns = []
    last = bootstrap
    for t in reversed(range(reward.shape[0])):
        last = one_step[t] + discount[t] * lambda_ * last
        returns.append(last)
    return torch.stack(returns[::-1])

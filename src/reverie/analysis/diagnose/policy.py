"""Entropy and choices of the actor."""

import math
from dataclasses import dataclass

import torch

from reverie.dreamer.distributions import ActionDistribution, OneHot, TanhNormal, TruncatedNormal

CERTAIN = 0.95
"""Probability above which an action counts as the only one; size above which a continuous one counts as saturated."""


@dataclass(frozen=True)
class Policy:
    """The actor in the posterior states of the replay."""

    kind: str  # discrete or continuous
    entropy: float  # mean, in nats, summed over the action's parts; differential for continuous actions
    max_entropy: float  # of uniform actions: sum of log(number of actions), or A log 2 for A values in [-1, 1]
    entropy_share: float | None  # of max_entropy; None for continuous actions, whose entropy can be negative
    certain: float  # share of states with one action above CERTAIN in every categorical; of values beyond +-CERTAIN
    actions: list[list[float]] | None  # by categorical: mean probability of each action
    dependence: float | None  # H(mean policy) - mean H(policy), in nats: how much the action depends on the state
    scale: list[float] | None  # continuous: mean standard deviation of each value, before it is cut off or squashed
    mode: list[float] | None  # continuous: mean mode of each value

    @property
    def favourite(self) -> tuple[int, float]:
        """Most probable action of the first categorical, and its mean probability; -1 for continuous actions."""
        return max(enumerate(self.actions[0]), key=lambda pair: pair[1]) if self.actions else (-1, 0.0)


def measure_policy(policy: ActionDistribution) -> Policy:
    """Return all of `Policy`.

        share = mean_t H(pi(. | z_t)) / sum log |A|,   dependence = H(mean_t pi(. | z_t)) - mean_t H(pi(. | z_t))

    The policy is the actor's distribution in N states; its tensors are [N, A].
    """
    entropy = policy.entropy().mean().item()
    if not isinstance(policy, OneHot):
        mode = policy.mode()
        scale = policy.scale.mean(0).tolist() if isinstance(policy, TruncatedNormal | TanhNormal) else None
        saturated = (mode.abs() > CERTAIN).float().mean().item()
        most = mode.shape[-1] * math.log(2)
        return Policy("continuous", entropy, most, None, saturated, None, None, scale, mode.mean(0).tolist())
    probabilities = [part.softmax(-1) for part in policy.parts]
    certain = torch.stack([part.amax(-1) > CERTAIN for part in probabilities]).all(0).float().mean().item()
    means = [part.mean(0) for part in probabilities]
    most = sum(map(math.log, policy.sizes))
    dependence = max(sum(-torch.xlogy(mean, mean).sum().item() for mean in means) - entropy, 0.0)
    actions = [mean.tolist() for mean in means]
    share = entropy / most if most else None
    return Policy("discrete", entropy, most, share, certain, actions, dependence, None, None)

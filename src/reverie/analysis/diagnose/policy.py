"""How decided the actor is, and for what."""

from dataclasses import dataclass

import torch

from reverie.dreamer.distributions import ActionDistribution, OneHot, TanhNormal, TruncatedNormal

CERTAIN = 0.95
"""Probability above which an action is as good as the only one, and magnitude above which a continuous one is."""


@dataclass(frozen=True)
class Policy:
    """The actor in the posterior states of the replay."""

    kind: str
    """discrete or continuous."""
    entropy: float
    """Mean, in nats, summed over the action's parts; differential for continuous actions."""
    max_entropy: float
    """Of uniform actions: sum of log(number of actions), or A * log 2 for A values in [-1, 1]."""
    entropy_share: float | None
    """entropy / max_entropy; None for continuous actions, whose entropy may be below zero."""
    certain: float
    """Share of states in which every categorical has one action above `CERTAIN`; or, for continuous actions, share of
    values whose mode lies beyond +-`CERTAIN`: saturation."""
    actions: list[list[float]] | None
    """By categorical: mean probability of each action. None for continuous actions."""
    dependence: float | None
    """How much the action depends on the state: H(mean policy) - mean H(policy), in nats, summed over categoricals."""
    scale: list[float] | None
    """Continuous actions: mean standard deviation of each value, before it is cut off or squashed."""
    mode: list[float] | None
    """Continuous actions: mean mode of each value."""


def measure_policy(policy: ActionDistribution) -> Policy:
    """All of `Policy`.

        share = mean_t H(pi(. | z_t)) / sum log |A|,   dependence = H(mean_t pi(. | z_t)) - mean_t H(pi(. | z_t))

    Args:
        policy: the actor's distribution in N states; its tensors are [N, A].
    """
    entropy = policy.entropy().mean().item()
    if isinstance(policy, OneHot):
        return _discrete(policy, entropy)
    mode = policy.mode()
    scale = policy.scale.mean(0).tolist() if isinstance(policy, TruncatedNormal | TanhNormal) else None
    return Policy(
        kind="continuous",
        entropy=entropy,
        max_entropy=mode.shape[-1] * torch.tensor(2.0).log().item(),
        entropy_share=None,
        certain=(mode.abs() > CERTAIN).float().mean().item(),
        actions=None,
        dependence=None,
        scale=scale,
        mode=mode.mean(0).tolist(),
    )


def _discrete(policy: OneHot, entropy: float) -> Policy:
    probabilities = [part.softmax(-1) for part in policy.parts]
    certain = torch.stack([part.amax(-1) > CERTAIN for part in probabilities]).all(0)
    means = [part.mean(0) for part in probabilities]
    most = sum(torch.tensor(float(size)).log().item() for size in policy.sizes)
    return Policy(
        kind="discrete",
        entropy=entropy,
        max_entropy=most,
        entropy_share=entropy / most if most else None,
        certain=certain.float().mean().item(),
        actions=[mean.tolist() for mean in means],
        dependence=max(sum(-torch.xlogy(mean, mean).sum().item() for mean in means) - entropy, 0.0),
        scale=None,
        mode=None,
    )

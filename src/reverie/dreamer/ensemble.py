"""Networks that learn from posterior states beside the world model: how far it can be trusted (release: expl.py).

Plan2Explore is rewarded where the `Ensemble` disagrees, and pessimistic behavior is penalised there.
"""

from abc import abstractmethod
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.config import ExplorationHeadConfig
from reverie.dreamer.actor_critic import frozen
from reverie.dreamer.distributions import unit_normal_log_prob
from reverie.dreamer.layers import MLP


class Heads(nn.Module):
    """Base of `Ensemble` and `KLHead`."""

    @abstractmethod
    def loss(
        self,
        feat: Float[Tensor, "T B F"],
        targets: dict[str, Tensor],
        action: Float[Tensor, "T B A"],
        is_first: Bool[Tensor, "T B"],
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss on posterior states, and metrics.

        Args:
            feat: features of posterior states, without gradient.
            targets: `stoch`, `deter`, `feat`, `embed` [T, B, …], and `kl` [T, B], without gradient.
            action: actions, of which `action[t]` led into state t.
            is_first: True where an episode begins, which nothing before predicts.
        """


class Ensemble(Heads):
    """K one-step models f_k of the world model's states (Sekar et al., 2020).

        loss = -sum over k of mean(log N(target_{t+1} | f_k(z_t, a), 1))

    The action a is the one chosen in z_t (`next`), or the one that led into it (`previous`): the release's pairing,
    both in training and in imagination, with which the disagreement in state t says how uncertain its successors are,
    whatever the agent does next.
    """

    def __init__(
        self,
        config: ExplorationHeadConfig,
        pairing: Literal["previous", "next", "none"],
        feat_size: int,
        action_size: int,
        target_size: int,
    ) -> None:
        super().__init__()
        self.config, self.pairing = config, pairing
        inputs = feat_size + (0 if pairing == "none" else action_size)
        self.members = nn.ModuleList(MLP(inputs, config, outputs=target_size) for _ in range(config.models))

    def loss(
        self, feat: Tensor, targets: dict[str, Tensor], action: Tensor, is_first: Tensor
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the negative log-likelihood of the next steps, summed over members; see `Heads.loss`."""
        predicted, target = self._predict(feat, action)[:, : len(feat) - 1], targets[self.config.target][1:]
        likelihood = unit_normal_log_prob(predicted, target, 1).sum(0)
        disagreement = _std(predicted.detach()).mean()
        return -(likelihood * ~is_first[1:]).mean(), {"disagreement": disagreement}

    def disagreement(self, feat: Float[Tensor, "H1 N F"], action: Float[Tensor, "H1 N A"]) -> Float[Tensor, "_ N"]:
        """Return the spread of the members' predictions, the mean over entries.

        The members have no gradient. With the pairing `next` there is one row less than in `feat`.
        """
        with frozen(self):
            predicted = self._predict(feat, action)
            spread = _variance(predicted) if self.config.spread == "variance" else _std(predicted)
            return spread.mean(-1)

    def penalty(self, feat: Float[Tensor, "H1 N F"], action: Float[Tensor, "H1 N A"]) -> Float[Tensor, "H1 N"]:
        """Return the distance of the members' predictions from their mean, the mean over members (v-d4rl: meandis).

            p_t = mean_k |f_k - mean_j f_j|

        With the pairing `next`, p_{t+1} is that of (z_t, a_t), and p_0 = 0; otherwise p_t is that of z_t.
        """
        with frozen(self):
            predicted = self._predict(feat, action)
            distance = (predicted - predicted.mean(0)).norm(dim=-1).mean(0)
        return torch.cat([distance.new_zeros(len(feat) - len(distance), feat.shape[1]), distance])

    def _predict(self, feat: Tensor, action: Tensor) -> Float[Tensor, "K _ N D"]:
        if self.pairing == "next":
            feat, action = feat[:-1], action[1:]  # nothing was chosen in the last state
        inputs = feat if self.pairing == "none" else torch.cat([feat, action.to(feat.dtype)], -1)
        return torch.stack([member(inputs) for member in self.members]).float()


def _variance(predicted: Float[Tensor, "K _ N D"]) -> Float[Tensor, "_ N D"]:
    """Return the population variance over members, in a fifth of the time of `torch.var` along axis 0 on a CPU."""
    return (predicted - predicted.mean(0)).square().mean(0)


def _std(predicted: Float[Tensor, "K _ N D"]) -> Float[Tensor, "_ N D"]:
    """Return the population standard deviation over members; where they agree, its gradient is 0 and not nan."""
    return _variance(predicted).clamp_min(torch.finfo(predicted.dtype).tiny).sqrt()


class KLHead(Heads):
    """One model of the KL in a state: loss = -mean(log N(KL_t | f(z_t), 1))."""

    def __init__(self, config: ExplorationHeadConfig, feat_size: int) -> None:
        super().__init__()
        self.mlp = MLP(feat_size, config, outputs=1)

    def loss(
        self, feat: Tensor, targets: dict[str, Tensor], action: Tensor, is_first: Tensor
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the negative log-likelihood of the KL; see `Heads.loss`."""
        return -unit_normal_log_prob(self.mlp(feat).squeeze(-1), targets["kl"], 0).mean(), {}

    def forward(self, feat: Float[Tensor, "*N F"]) -> Float[Tensor, "*N"]:
        """Return the predicted KL. The head has no gradient."""
        with frozen(self):
            return self.mlp(feat).squeeze(-1)

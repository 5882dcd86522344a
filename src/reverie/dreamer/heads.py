"""Actor, critic and the normalisation of imagined rewards."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.config import ActorConfig, CriticConfig, RewardNormConfig
from reverie.dreamer.distributions import (
    ActionDistribution,
    OneHot,
    TanhNormal,
    TruncatedNormal,
    draw_normal,
    draw_uniform,
)
from reverie.dreamer.layers import MLP, whole_mean
from reverie.specs import ActionSpec


class Actor(nn.Module):
    """pi(a | s): one-hot categoricals for discrete actions, a bounded normal for continuous ones (SPEC 33)."""

    def __init__(self, feat_size: int, action: ActionSpec, config: ActorConfig) -> None:
        super().__init__()
        self.spec = action
        self.config = config
        self.body = MLP(feat_size, config)
        self.head = nn.Linear(self.body.output_size, action.size)
        if action.kind == "continuous":
            self.std_head = nn.Linear(self.body.output_size, action.size)
        # softplus(shift) = init_std: TanhNormal's standard deviation before training, without min_std. 0 is no shift.
        self._std_shift = math.log(math.expm1(config.init_std)) if config.init_std else 0.0

    def forward(self, feat: Float[Tensor, "*N F"]) -> ActionDistribution:
        """Return the distribution over actions in each state, in float32."""
        hidden = self.body(feat)
        out = self.head(hidden).float()
        if self.spec.kind == "discrete":
            return OneHot(out, self.spec.sizes)
        raw_std = self.std_head(hidden).float()
        if self.config.distribution == "tanh_normal":
            # The mean before tanh is limited to [-5, 5], as in Dreamer.
            return TanhNormal(5 * torch.tanh(out / 5), F.softplus(raw_std + self._std_shift) + self.config.min_std)
        return TruncatedNormal(torch.tanh(out), 2 * torch.sigmoid(raw_std / 2) + self.config.min_std)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return standard noise for actions of leading shape `shape`."""
        if self.spec.kind == "discrete":
            return draw_uniform((*shape, len(self.spec.sizes)), generator)
        draw = draw_normal if self.config.distribution == "tanh_normal" else draw_uniform
        return draw((*shape, self.spec.size), generator)


class Critic(nn.Module):
    """v(s): the mean of a unit-variance normal."""

    def __init__(self, feat_size: int, config: CriticConfig) -> None:
        super().__init__()
        self.mlp = MLP(feat_size, config, outputs=1)

    def forward(self, feat: Float[Tensor, "*N F"]) -> Float[Tensor, "*N"]:
        """Return the expected lambda-return, in float32."""
        return self.mlp(feat).squeeze(-1)


class RewardNorm(nn.Module):
    """Divide imagined rewards by a running mean of their magnitude (release: StreamNorm; SPEC 27; golden file 16).

    With the default momentum of 1 the mean stays 1 and rewards are unchanged.
    """

    whole_mean = staticmethod(whole_mean)
    magnitude: Float[Tensor, ""]

    def __init__(self, config: RewardNormConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("magnitude", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, reward: Float[Tensor, "*N"], is_valid: Bool[Tensor, ""] | bool = True) -> None:
        """Update the running mean; a non-finite mean, or `is_valid` False, leaves it unchanged."""
        momentum = self.config.momentum
        if momentum < 1:
            mean = self.whole_mean(reward.abs().mean()).double()
            magnitude = momentum * self.magnitude + (1 - momentum) * mean
            self.magnitude.copy_(torch.where(mean.isfinite() & is_valid, magnitude, self.magnitude))

    def forward(self, reward: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Return the normalised rewards."""
        return reward / (self.magnitude.float() + self.config.eps) * self.config.scale

"""The world model: encoder, RSSM and heads, and the loss that trains them together."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.config import WorldModelConfig
from reverie.fast.features import Features
from reverie.networks.distributions import bernoulli_log_prob, unit_normal_log_prob
from reverie.networks.layers import MLP
from reverie.networks.scalars import Scalar, Scalars
from reverie.schedules import parse_schedule
from reverie.specs import EnvSpec
from reverie.world_model.objective import balanced_kl, split_kl, transform_reward
from reverie.world_model.observations import Decoder, Encoder, VectorNorm
from reverie.world_model.rssm import RSSM, State

Batch = dict[str, Tensor]
"""Steps [T, B, …] as tensors, after `WorldModel.preprocess`."""


class ModelLoss(NamedTuple):
    """What `WorldModel.loss` returns."""

    loss: Float[Tensor, ""]
    posterior: State
    """[T, B, …], with gradients."""
    prior: Tensor
    """The prior's statistics, [T, B, …]."""
    log_likelihoods: dict[str, Float[Tensor, "T B"]]
    metrics: dict[str, Tensor]


class WorldModel(nn.Module):
    """p(x, r, g | a), learned as in the article's world model section."""

    def __init__(self, config: WorldModelConfig, spec: EnvSpec) -> None:
        super().__init__()
        self.config = config
        self.vector_norm = VectorNorm(spec.observations) if config.normalize_vectors else None
        self.encoder = Encoder(spec.observations, config.encoder)
        self.rssm = RSSM(config.rssm, self.encoder.output_size, spec.action.size)
        self.decoder = Decoder(spec.observations, self.rssm.feat_size, config.decoder)
        self.reward_head = MLP(self.rssm.feat_size, config.reward_head, outputs=1)
        if config.predict_discount:
            self.discount_head = MLP(self.rssm.feat_size, config.discount_head, outputs=1)
        kl = config.kl
        weights = (
            {"transition": kl.prior_scale, "latent_entropy": kl.posterior_entropy_scale}
            if kl.objective == "split"
            else {"kl_scale": kl.scale, "free_nats": kl.free_nats}
        )
        self._schedules = {name: parse_schedule(schedule) for name, schedule in weights.items()}

    def preprocess(self, steps: Mapping[str, Tensor]) -> Batch:
        """Raw steps to what the networks read and predict (SPEC 3; golden file 10).

        uint8 becomes float in [-0.5, 0.5], vectors are standardised if `normalize_vectors` is on, rewards are
        transformed, booleans stay, and `discount` is added where `is_terminal` is present: gamma * (1 - is_terminal),
        the discount head's soft label.
        """
        batch = {
            key: value.float() / 255 - 0.5
            if value.dtype == torch.uint8
            else (value if value.dtype == torch.bool else value.float())
            for key, value in steps.items()
        }
        if self.vector_norm is not None:
            batch |= self.vector_norm(batch)
        if "reward" in batch:
            batch["reward"] = transform_reward(batch["reward"], self.config.reward_transform)
        if "is_terminal" in batch:
            batch["discount"] = self.config.discount * (1 - batch["is_terminal"].float())
        return batch

    def reward(self, feat: Float[Tensor, "*N F"] | Features) -> Float[Tensor, "*N"]:
        """Mode of the predicted reward on arriving in a state, in the space of `reward_transform`."""
        return self.reward_head(feat).squeeze(-1)

    def discount_logits(self, feat: Float[Tensor, "*N F"] | Features) -> Float[Tensor, "*N"]:
        """Logits of the discount on arriving in a state; only where `predict_discount` is on."""
        return self.discount_head(feat).squeeze(-1)

    def discount(self, feat: Float[Tensor, "*N F"] | Features) -> Float[Tensor, "*N"]:
        """Mean discount factor, gamma included; a constant where `predict_discount` is off (SPEC 19)."""
        if self.config.predict_discount:
            return self.discount_logits(feat).sigmoid()
        return torch.full(feat.shape[:-1], self.config.discount, device=self.rssm.prior_head.weight.device)

    def log_likelihoods(self, feat: Float[Tensor, "T B F"], batch: Batch) -> dict[str, Float[Tensor, "T B"]]:
        """Log-likelihood of each target under its head, summed over the target's own axes (SPEC 18).

        Heads whose gradient is stopped read features that are cut off from the representation (SPEC 21).
        """
        through = self.config.head_gradients
        images = self.decoder.images(feat if through.image else feat.detach())
        vectors = self.decoder.vectors(feat if through.vector else feat.detach())
        result = {key: unit_normal_log_prob(mean, batch[key], 3) for key, mean in images.items()}
        result |= {key: unit_normal_log_prob(mean, batch[key], 1) for key, mean in vectors.items()}
        result["reward"] = unit_normal_log_prob(
            self.reward(feat if through.reward else feat.detach()), batch["reward"], 0
        )
        if self.config.predict_discount:
            logits = self.discount_logits(feat if through.discount else feat.detach())
            result["discount"] = bernoulli_log_prob(logits, batch["discount"])
        return result

    def scalars(self, agent_step: float) -> dict[str, float]:
        """Values of the schedules that `loss` reads."""
        return {name: schedule(agent_step) for name, schedule in self._schedules.items()}

    def loss(
        self, batch: Batch, state: State | None, noise: Tensor | None, scalars: Scalars | None = None
    ) -> ModelLoss:
        """The world model's objective on a batch of sequences (SPEC 18 to 22; golden files 09).

            loss = beta * KL + sum over heads of eta * mean(-log p)

        or, with `kl.objective=split`, eta_t * cross entropy - eta_q * entropy in place of beta * KL.

        Args:
            batch: from `preprocess`, [T, B, …].
            state: before the first step; None is zeros. Steps with `is_first` ignore it.
            noise: for the posterior samples; None takes modes.
            scalars: of the same names as what `scalars` returns; None takes those of the first step.
        """
        scalars = self.scalars(0) if scalars is None else scalars
        embed = self.encoder(batch)
        posterior, prior = self.rssm.observe(embed, batch["action"], batch["is_first"], state, noise)
        kl_scale, kl_loss, kl_value = self._kl(posterior.stats, prior, scalars)
        likelihoods = self.log_likelihoods(posterior.feat, batch)
        losses = {key: -value.mean() for key, value in likelihoods.items()}
        loss = kl_scale * kl_loss
        for key, value in losses.items():
            loss = loss + self._scale(key) * value
        metrics = {f"model/{key}_loss": value for key, value in losses.items()}
        metrics |= {
            "model/loss": loss,
            "model/kl_loss": kl_loss,
            "model/kl": kl_value.mean(),
            "model/prior_entropy": self.rssm.latents.entropy(prior.detach()).mean(),
            "model/posterior_entropy": self.rssm.latents.entropy(posterior.stats.detach()).mean(),
        }
        return ModelLoss(loss, posterior, prior, likelihoods, {k: v.detach() for k, v in metrics.items()})

    def _kl(self, posterior: Tensor, prior: Tensor, scalars: Scalars) -> tuple[Scalar, Tensor, Tensor]:
        """Weight and value of the term that holds posterior and prior together, and the KL of each step in nats."""
        kl, latents = self.config.kl, self.rssm.latents
        if kl.objective == "split":
            weights = {"transition": scalars["transition"], "entropy": scalars["latent_entropy"]}
            return 1.0, *split_kl(latents, posterior, prior, **weights)
        term = balanced_kl(
            latents,
            posterior,
            prior,
            balance=kl.balance,
            free_nats=scalars["free_nats"],
            free_average=kl.free_average,
            equal_scale=kl.equal_scale,
            forward=kl.forward,
        )
        return scalars["kl_scale"], *term

    def _scale(self, key: str) -> float:
        scales = self.config.loss_scales
        if key in self.decoder.keys.images:
            return scales.image
        if key in self.decoder.keys.vectors:
            return scales.vector
        return {"reward": scales.reward, "discount": scales.discount}[key]

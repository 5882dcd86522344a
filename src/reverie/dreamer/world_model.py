"""The world model: encoder, RSSM and heads, trained together on sequences from the replay.

    loss = beta * KL(q || p) + sum over heads of scale * mean(-log p(target | h_t, s_t))      (paper, eq. 2)

with KL balancing in the first term. `WorldModel.loss` is the place to start, `balanced_kl` is KL balancing.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.config import WorldModelConfig, parse_schedule
from reverie.dreamer.distributions import bernoulli_log_prob, unit_normal_log_prob
from reverie.dreamer.encoder_decoder import Decoder, Encoder, VectorNorm
from reverie.dreamer.latents import Latents
from reverie.dreamer.layers import MLP, Scalar, ScheduledValues, whole_mean
from reverie.dreamer.rssm import RSSM, State
from reverie.specs import EnvSpec

Batch = dict[str, Tensor]
"""Preprocessed steps [T, B, …] by key."""


def balanced_kl(
    latents: Latents,
    posterior: Tensor,
    prior: Tensor,
    *,
    balance: float,
    free_nats: Scalar,
    free_average: bool = True,
    equal_scale: bool = False,
    forward: bool = False,
    whole_mean: Callable[[Tensor], Tensor] = whole_mean,
) -> tuple[Float[Tensor, ""], Float[Tensor, "*N"]]:
    """Return KL(q || p) with balanced gradients (paper, eq. 2 and algorithm 2; SPEC 20; golden file 04).

        loss = alpha * max(KL(sg(q) || p), free) + (1 - alpha) * max(KL(q || sg(p)), free)

    At exactly alpha = 0.5 the release uses the plain KL instead, max(KL(q || p), free): its value is the same and its
    gradient twice as large.

    Args:
        latents: kind of the state whose statistics follow.
        posterior: statistics of q, [..., *stats_shape].
        prior: statistics of p.
        balance: alpha, the share of the prior's gradient.
        free_nats: KL below this costs nothing and has no gradient.
        free_average: compare the mean over all steps with `free_nats`, instead of each step.
        equal_scale: use the equation at alpha = 0.5, too.
        forward: use KL(p || q) in place of KL(q || p).
        whole_mean: averages the means of several learners' parts of a batch, see `layers.whole_mean`.

    Returns:
        The loss in nats, and the KL of each step.
    """

    def free(kl: Tensor) -> Tensor:
        return whole_mean(kl.mean()).clamp(min=free_nats) if free_average else kl.clamp(min=free_nats).mean()

    def divergence(posterior: Tensor, prior: Tensor) -> Tensor:
        return latents.kl(prior, posterior) if forward else latents.kl(posterior, prior)

    if balance == 0.5 and not equal_scale:
        kl = divergence(posterior, prior)
        return free(kl), kl
    prior_kl = divergence(posterior.detach(), prior)
    posterior_kl = divergence(posterior, prior.detach())
    return balance * free(prior_kl) + (1 - balance) * free(posterior_kl), posterior_kl


def split_kl(
    latents: Latents, posterior: Tensor, prior: Tensor, *, prior_scale: Scalar, posterior_entropy_scale: Scalar
) -> tuple[Float[Tensor, ""], Float[Tensor, "*N"]]:
    """Return the two parts of the KL, weighted separately (article, world model loss).

        loss = eta_t CE(q, p) - eta_q H(q),    CE(q, p) = -E_q log p = KL(q || p) + H(q)

    The cross entropy has gradients for both distributions. Where the prior is exact, the loss is (eta_t - eta_q) H(q):
    for eta_t > eta_q it falls with the posterior's entropy, even if the posterior carries nothing of the observation
    (docs/variants.md).

    Args:
        latents: kind of the state whose statistics follow.
        posterior: statistics of q, [..., *stats_shape].
        prior: statistics of p.
        prior_scale: eta_t.
        posterior_entropy_scale: eta_q.

    Returns:
        The loss, and the KL of each step in nats.
    """
    kl, entropy = latents.kl(posterior, prior), latents.entropy(posterior)
    return (prior_scale * (kl + entropy) - posterior_entropy_scale * entropy).mean(), kl


def transform_reward(reward: Tensor, name: str) -> Tensor:
    """Return the reward head's target (SPEC 3)."""
    if name == "identity":
        return reward
    return torch.tanh(reward) if name == "tanh" else torch.sign(reward)


class Preprocessor(nn.Module):
    """Convert raw steps to inputs and targets of the networks (SPEC 3; golden file 10)."""

    def __init__(self, config: WorldModelConfig, spec: EnvSpec) -> None:
        super().__init__()
        self.config = config
        self.vector_norm = VectorNorm(spec.observations) if config.normalize_vectors else None

    def update(self, steps: Mapping[str, Tensor]) -> None:
        """Update the statistics of vector observations, if `normalize_vectors` is on."""
        if self.vector_norm is not None:
            self.vector_norm.update(steps)

    def forward(self, steps: Mapping[str, Tensor]) -> Batch:
        """Convert steps.

        uint8 becomes float in [-0.5, 0.5], vectors are standardised if `normalize_vectors` is on, rewards are
        transformed, booleans stay. `discount`, the discount head's soft label gamma * (1 - is_terminal), is added where
        there is `is_terminal`.
        """
        batch = {}
        for key, value in steps.items():
            if value.dtype == torch.uint8:
                batch[key] = value.float() / 255 - 0.5
            else:
                batch[key] = value if value.dtype == torch.bool else value.float()
        if self.vector_norm is not None:
            batch |= self.vector_norm(batch)
        if "reward" in batch:
            batch["reward"] = transform_reward(batch["reward"], self.config.reward_transform)
        if "is_terminal" in batch:
            batch["discount"] = self.config.discount * (1 - batch["is_terminal"].float())
        return batch


class Inference(NamedTuple):
    """Latent states of observed sequences."""

    batch: Batch
    """Preprocessed steps [T, B, …]."""
    posterior: State
    """[T, B, …]"""
    embed: Tensor
    """Outputs of the encoder [T, B, E]."""


def infer(
    preprocess: Preprocessor,
    encoder: Encoder,
    rssm: RSSM,
    steps: Mapping[str, Tensor],
    state: State | None,
    noise: Tensor | None,
) -> Inference:
    """Preprocess, encode and filter sequences; see `WorldModel.infer`.

    A function of three modules, since a `Policy` has these and no decoder and heads.
    """
    batch = preprocess(steps)
    embed = encoder(batch)
    posterior = rssm.observe(embed, batch["action"], batch["is_first"], state, noise)
    return Inference(batch, posterior, embed)


class ModelLoss(NamedTuple):
    """Result of `WorldModel.loss`."""

    loss: Float[Tensor, ""]
    posterior: State
    """[T, B, …], with gradients."""
    embed: Float[Tensor, "T B E"]
    """Outputs of the encoder, with gradients."""
    kl: Float[Tensor, "T B"]
    """KL of each step in nats, with gradients."""
    metrics: dict[str, Tensor]


class WorldModel(nn.Module):
    """p(x, r, g | a): encoder, RSSM, decoder, reward and discount head (paper, section 2.1)."""

    whole_mean = staticmethod(whole_mean)

    def __init__(self, config: WorldModelConfig, spec: EnvSpec) -> None:
        super().__init__()
        self.config = config
        self.preprocess = Preprocessor(config, spec)
        self.encoder = Encoder(spec.observations, config.encoder)
        self.rssm = RSSM(config.rssm, self.encoder.output_size, spec.action.size)
        self.decoder = Decoder(spec.observations, self.rssm.feat_size, config.decoder)
        self.reward_head = MLP(self.rssm.feat_size, config.reward_head, outputs=1)
        if config.predict_discount:
            self.discount_head = MLP(self.rssm.feat_size, config.discount_head, outputs=1)

    def infer(self, steps: Mapping[str, Tensor], state: State | None = None, noise: Tensor | None = None) -> Inference:
        """Infer the latent states of sequences: preprocess, encode, filter.

        Args:
            steps: raw steps, [T, B, …], of which `action[t]` led into `image[t]`.
            state: state before the first step, ignored where `is_first`; None is zeros.
            noise: noise of the posterior samples, [T, B, …]; None takes modes.
        """
        return infer(self.preprocess, self.encoder, self.rssm, steps, state, noise)

    def reward(self, feat: Float[Tensor, "*N F"]) -> Float[Tensor, "*N"]:
        """Return the mean reward on arriving in a state, after `reward_transform`."""
        return self.reward_head(feat).squeeze(-1)

    def discount_logits(self, feat: Float[Tensor, "*N F"]) -> Float[Tensor, "*N"]:
        """Return the logits of the discount on arriving in a state; needs `predict_discount`."""
        return self.discount_head(feat).squeeze(-1)

    def discount(self, feat: Float[Tensor, "*N F"]) -> Float[Tensor, "*N"]:
        """Return the mean discount factor, gamma included; gamma where `predict_discount` is off (SPEC 19)."""
        if self.config.predict_discount:
            return self.discount_logits(feat).sigmoid()
        return torch.full(feat.shape[:-1], self.config.discount, device=feat.device)

    def log_likelihoods(self, feat: Float[Tensor, "T B F"], batch: Batch) -> dict[str, Float[Tensor, "T B"]]:
        """Return log p(target | h_t, s_t) of each head, summed over the target's own axes (SPEC 18).

        A head whose `head_gradients` is off reads features without gradient (SPEC 21).
        """
        gradients = self.config.head_gradients

        def input_of(has_gradient: bool) -> Tensor:
            return feat if has_gradient else feat.detach()

        images = self.decoder.images(input_of(gradients.image))
        vectors = self.decoder.vectors(input_of(gradients.vector))
        result = {key: unit_normal_log_prob(mean, batch[key], 3) for key, mean in images.items()}
        result |= {key: unit_normal_log_prob(mean, batch[key], 1) for key, mean in vectors.items()}
        result["reward"] = unit_normal_log_prob(self.reward(input_of(gradients.reward)), batch["reward"], 0)
        if self.config.predict_discount:
            logits = self.discount_logits(input_of(gradients.discount))
            result["discount"] = bernoulli_log_prob(logits, batch["discount"])
        return result

    def scheduled_values(self, agent_step: float) -> dict[str, float]:
        """Return the values that `loss` reads from schedules."""
        kl = self.config.kl
        if kl.objective == "split":
            schedules = {"prior_scale": kl.prior_scale, "posterior_entropy_scale": kl.posterior_entropy_scale}
        else:
            schedules = {"kl_scale": kl.scale, "free_nats": kl.free_nats}
        return {name: parse_schedule(schedule)(agent_step) for name, schedule in schedules.items()}

    def loss(
        self,
        steps: Mapping[str, Tensor],
        state: State | None,
        noise: Tensor | None,
        scheduled: ScheduledValues | None = None,
    ) -> ModelLoss:
        """Return the loss on a batch of sequences (SPEC 18 to 22; golden files 09).

        Args:
            steps: raw steps, [T, B, …].
            state: state before the first step, ignored where `is_first`; None is zeros.
            noise: noise of the posterior samples; None takes modes.
            scheduled: result of `scheduled_values`; None takes those of step 0.
        """
        scheduled = self.scheduled_values(0) if scheduled is None else scheduled
        batch, posterior, embed = self.infer(steps, state, noise)
        prior = self.rssm.prior(posterior.deter)
        kl_loss, kl = self.kl_loss(posterior.stats, prior, scheduled)
        loss = scheduled.get("kl_scale", 1.0) * kl_loss  # the split objective weighs its parts itself
        losses = {key: -value.mean() for key, value in self.log_likelihoods(posterior.feat, batch).items()}
        for key, value in losses.items():
            loss = loss + self.loss_scale(key) * value
        latents = self.rssm.latents
        metrics = {f"model/{key}_loss": value for key, value in losses.items()}
        metrics |= {
            "model/loss": loss,
            "model/kl_loss": kl_loss,
            "model/kl": kl.mean(),
            "model/prior_entropy": latents.entropy(prior.detach()).mean(),
            "model/posterior_entropy": latents.entropy(posterior.stats.detach()).mean(),
        }
        metrics = {name: value.detach() for name, value in metrics.items()}
        return ModelLoss(loss, posterior, embed, kl, metrics)

    def kl_loss(
        self, posterior: Tensor, prior: Tensor, scheduled: ScheduledValues
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "*N"]]:
        """Return the KL term of the loss, `balanced_kl` or `split_kl`, and the KL of each step in nats."""
        kl, latents = self.config.kl, self.rssm.latents
        if kl.objective == "split":
            scales = {name: scheduled[name] for name in ("prior_scale", "posterior_entropy_scale")}
            return split_kl(latents, posterior, prior, **scales)
        return balanced_kl(
            latents,
            posterior,
            prior,
            balance=kl.balance,
            free_nats=scheduled["free_nats"],
            free_average=kl.free_average,
            equal_scale=kl.equal_scale,
            forward=kl.forward,
            whole_mean=self.whole_mean,
        )

    def loss_scale(self, key: str) -> float:
        """Return the weight of a target's negative log-likelihood. No observation is named reward or discount."""
        scales = self.config.loss_scales
        if key in self.decoder.keys.images:
            return scales.image
        if key in self.decoder.keys.vectors:
            return scales.vector
        return {"reward": scales.reward, "discount": scales.discount}[key]

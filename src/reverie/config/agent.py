"""Settings of the agent: world model, behavior, exploration, and the networks that they are made of.

See `schema.py` for how to read them.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from reverie.config.schedules import Schedule
from reverie.config.settings import Range, Settings

PositiveInt = Annotated[int, Range("at least 1", lambda value: value >= 1)]
NonNegativeInt = Annotated[int, Range("at least 0", lambda value: value >= 0)]
IntFrom2 = Annotated[int, Range("at least 2", lambda value: value >= 2)]
PositiveFloat = Annotated[float, Range("above 0", lambda value: value > 0)]
NonNegativeFloat = Annotated[float, Range("at least 0", lambda value: value >= 0)]
UnitInterval = Annotated[float, Range("between 0 and 1", lambda value: 0 <= value <= 1)]


@dataclass(frozen=True)
class OptimizerConfig(Settings):
    """The release's Adam: clip by global norm, decay weights, then step."""

    lr: Schedule = 1e-4
    """Learning rate, a number or a schedule over agent steps."""
    eps: PositiveFloat = 1e-5
    """Epsilon, above 0; added to sqrt(v) outside the bias correction, as in TensorFlow."""
    max_grad_norm: NonNegativeFloat = 100.0
    """Largest global norm of the gradients; 0 does not clip."""
    weight_decay: Annotated[float, Range("at least 0 and below 1", lambda value: 0 <= value < 1)] = 1e-6
    """Share of the weights that a step removes, in [0, 1); not scaled by the learning rate."""
    weight_decay_on: Literal["all", "kernels"] = "all"
    """Decayed parameters: all of them (release), or only matrices and convolution kernels."""


@dataclass(frozen=True)
class MLPConfig(Settings):
    """Multilayer perceptron with ELU."""

    layers: NonNegativeInt = 4
    """Number of hidden layers, at least 0."""
    units: PositiveInt = 400
    """Width of the hidden layers, at least 1."""
    layer_norm: bool = False
    """Layer norm between each dense layer and its ELU. Crafter: True."""


@dataclass(frozen=True)
class EncoderConfig(Settings):
    """Encoder: observations to one embedding, images by convolutions and the rest by an MLP."""

    keys: tuple[str, ...] = ()
    """Observation keys that are read (decoder: predicted); empty for all of these kinds."""
    kinds: Literal["all", "images", "vectors"] = "all"
    """Kinds of observations that are read (decoder: predicted). The release: images in dmc_vision, vectors in
    dmc_proprio."""
    cnn_depth: PositiveInt = 48
    """Channels of the first convolution, at least 1; each further one doubles them."""
    cnn_activation: Literal["elu", "relu"] = "elu"
    """Activation after each convolution but the decoder's last. Dreamer (V1): relu, which has no kernel on a CPU."""
    mlp: MLPConfig = field(default_factory=MLPConfig)
    """MLP of the vector observations, concatenated in the order of the observation space."""
    layer_norm: bool = False
    """Layer norm after each convolution. Crafter: True."""


@dataclass(frozen=True)
class DecoderConfig(EncoderConfig):
    """Decoder, the mirror image of the encoder: p(x_t | h_t, s_t)."""


@dataclass(frozen=True)
class RSSMConfig(Settings):
    """Recurrent state-space model."""

    latents: Literal["categorical", "gaussian", "binary"] = "categorical"
    """Distribution of the stochastic state s_t. The article: categorical; Dreamer (V1): gaussian. Binary latents have
    stoch * classes bits, as wide as a categorical sample."""
    stoch: PositiveInt = 32
    """Number of latent variables S, at least 1."""
    classes: PositiveInt = 32
    """Classes K of each categorical variable, at least 1; Gaussian variables have none."""
    deter: PositiveInt = 1024
    """Size D of the deterministic state h_t, the GRU's, at least 1."""
    hidden: PositiveInt = 1024
    """Width of the dense layers around the GRU, at least 1."""
    layer_norm: bool = False
    """Layer norm in those dense layers. Crafter: True."""
    gru_layer_norm: bool = True
    """Layer norm inside the GRU. The release: always True, whatever the other layers have."""
    std_activation: Literal["sigmoid2", "softplus"] = "sigmoid2"
    """Gaussian latents only: function that makes the standard deviation positive."""
    min_std: PositiveFloat = 0.1
    """Gaussian latents only: constant added to the standard deviation, above 0."""


@dataclass(frozen=True)
class KLConfig(Settings):
    """KL loss between posterior q and prior p: balanced, or split into its two parts."""

    objective: Literal["balanced", "split"] = "balanced"
    """Form of the loss. balanced: scale * KL(q || p) with balanced gradients (paper, eq. 2; release). split: the next
    two settings' weighted difference, prior_scale * CE(q, p) - posterior_entropy_scale * H(q) (article, world model
    loss); the remaining settings of this group then have no effect."""
    prior_scale: Schedule = 0.08
    """eta_t, for objective=split: weight of the prior's cross entropy."""
    posterior_entropy_scale: Schedule = 0.02
    """eta_q, for objective=split: weight of the posterior's entropy."""
    scale: Schedule = 1.0
    """beta, weight of the KL. Atari: 0.1."""
    balance: UnitInterval = 0.8
    """alpha, share of the gradient that trains the prior, in [0, 1]. Exactly 0.5 is the plain KL, whose whole gradient
    trains both sides (release): twice as much as at 0.501."""
    equal_scale: bool = False
    """At balance=0.5, half of the plain KL's gradient, which is that of 0.499 and 0.501. Not in the release."""
    free_nats: Schedule = 0.0
    """KL in nats below which it costs nothing. Atari: 0; continuous control: 1."""
    free_average: bool = True
    """Free nats apply to the mean over the batch instead of each step, at any balance. The release averages, too, but
    always takes each step at balance=0.5: False is that branch."""
    forward: bool = False
    """KL(p || q) instead of KL(q || p) (release option, off everywhere)."""


@dataclass(frozen=True)
class LossScales(Settings):
    """Weights of the negative log-likelihoods in the world model's loss, each at least 0."""

    image: NonNegativeFloat = 1.0
    """eta_x of images; their log-likelihood is summed over pixels."""
    vector: NonNegativeFloat = 1.0
    """eta_x of vectors; their log-likelihood is summed over entries."""
    reward: NonNegativeFloat = 1.0
    """eta_r."""
    discount: NonNegativeFloat = 1.0
    """eta_gamma. Atari: 5."""


@dataclass(frozen=True)
class HeadGradients(Settings):
    """Heads whose gradients train the representation; the others train only themselves (the article's ablations)."""

    image: bool = True
    """False is "No Image Gradients"."""
    vector: bool = True
    """The same for vector observations."""
    reward: bool = True
    """False is "No Reward Gradients"."""
    discount: bool = True
    """The same for the discount head; no effect without predict_discount."""


@dataclass(frozen=True)
class WorldModelConfig(Settings):
    """World model: encoder, RSSM, heads, loss, and their optimizer."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    reward_head: MLPConfig = field(default_factory=MLPConfig)
    discount_head: MLPConfig = field(default_factory=MLPConfig)
    predict_discount: bool = True
    """A discount head learns where episodes end; False: the constant below everywhere. Continuous control: False."""
    discount: UnitInterval = 0.99
    """gamma, in [0, 1]. The discount head's labels are gamma * (1 - is_terminal). Atari: 0.999; the paper: 0.995."""
    reward_transform: Literal["tanh", "identity", "sign"] = "tanh"
    """Function of the rewards that the model learns; scores are always of raw rewards."""
    normalize_vectors: bool = False
    """Vector observations are standardised by their running mean and deviation. The release: False."""
    kl: KLConfig = field(default_factory=KLConfig)
    loss_scales: LossScales = field(default_factory=LossScales)
    head_gradients: HeadGradients = field(default_factory=HeadGradients)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-4))


@dataclass(frozen=True)
class ActorConfig(MLPConfig):
    """Actor pi(a | s)."""

    distribution: Literal["auto", "trunc_normal", "tanh_normal"] = "auto"
    """Distribution of continuous actions; auto is trunc_normal. Discrete actions are one-hot."""
    min_std: PositiveFloat = 0.1
    """Continuous actions: constant added to the standard deviation, above 0."""
    init_std: NonNegativeFloat = 0.0
    """distribution=tanh_normal only: standard deviation of an untrained policy, without min_std. Dreamer (V1): 5. 0
    shifts nothing, which gives 0.69 (release)."""
    gradient: Literal["auto", "reinforce", "dynamics", "both"] = "auto"
    """Gradient estimator. auto: reinforce for discrete actions, dynamics for continuous ones (release)."""
    dynamics_weight: Schedule = 0.1
    """eta_d, for gradient=both. The article: linear from 0.1 to 0 over the first 10M frames."""
    reinforce_weight: Schedule | None = None
    """eta_s, for gradient=both; none is 1 - eta_d (release). The article: 0.9."""
    reinforce_sample: Literal["detached", "release"] = "detached"
    """For gradient=both with continuous actions: sample in log pi. detached: without gradient (article). release: with
    its gradient, which cancels the Reinforce term. Discrete actions: no difference."""
    entropy: Schedule = 2e-3
    """eta_e, weight of the policy's entropy. Atari: 1e-3."""
    exploration_noise: UnitInterval = 0.0
    """Noise on collected actions, in [0, 1]: share of random choices, or standard deviation. Dreamer (V1): 0.3."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=8e-5))

    def __post_init__(self) -> None:
        super().__post_init__()
        is_used = self.reinforce_weight is None or self.gradient == "both"
        unused = f", but it is used with gradient=both only, and gradient is {self.gradient}."
        self._require(is_used, "reinforce_weight", unused)


@dataclass(frozen=True)
class CriticConfig(MLPConfig):
    """Critic v(s), and the target critic that it bootstraps from."""

    slow_target: bool = True
    """The critic bootstraps from the target critic; False: from itself."""
    target_update_interval: PositiveInt = 100
    """Critic updates between two updates of the target critic, at least 1."""
    target_tau: Annotated[float, Range("above 0 and at most 1", lambda value: 0 < value <= 1)] = 1.0
    """Share of the critic's weights in an updated target critic, in (0, 1]; 1 is a copy."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=2e-4))


@dataclass(frozen=True)
class RewardNormConfig(Settings):
    """Division of imagined rewards by a running mean of their magnitude."""

    momentum: UnitInterval = 1.0
    """Momentum of the running mean, in [0, 1]; 1 never updates it, and rewards stay as they are (release)."""
    scale: PositiveFloat = 1.0
    """Factor of the result, above 0."""
    eps: PositiveFloat = 1e-8
    """Constant added to the magnitude, above 0."""


@dataclass(frozen=True)
class BehaviorConfig(Settings):
    """Behavior learning inside the world model."""

    horizon: IntFrom2 = 15
    """H, imagined steps from every start state, at least 2."""
    imagine_last: NonNegativeInt = 0
    """Steps at the end of each sequence whose states are the starts of rollouts; 0 for all of them (release). Fewer
    save most of an update where the actor learns through the dynamics. DreamerV3's imag_last."""
    return_lambda: UnitInterval = 0.95
    """lambda of the lambda-return, in [0, 1]."""
    long_term_entropy: bool = False
    """The policy's entropy, times actor.entropy and the probability that the episode continues, is added to imagined
    rewards, so that values include later entropy (the article's "long-term entropy", tried without benefit)."""
    disagreement_penalty: NonNegativeFloat = 0.0
    """lambda, at least 0: imagined rewards are reduced by lambda times the disagreement of an ensemble
    (exploration.head) about each step, so that behavior learned from recorded episodes stays where the world model
    knows what happens. v-d4rl's offline_lmbd, which is 10."""
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    reward_norm: RewardNormConfig = field(default_factory=RewardNormConfig)


@dataclass(frozen=True)
class ExplorationHeadConfig(MLPConfig):
    """Networks of which the intrinsic reward is made: an ensemble, or one that predicts the KL (release: expl_head)."""

    models: Annotated[int, Range("between 2 and 1000", lambda value: 2 <= value <= 1000)] = 10
    """K, members of the ensemble, 2 to 1000 (release: disag_models)."""
    target: Literal["stoch", "deter", "feat", "embed"] = "stoch"
    """Target of the ensemble, of the next step: its stochastic state, deterministic state, both, or the encoder's
    output (release: disag_target)."""
    action: Literal["auto", "previous", "next", "none"] = "auto"
    """Action that the ensemble reads with a state. previous: the one that led into the state (release, which is
    thereby told nothing new). next: the one that leads to the predicted step. none: no action. auto: previous for
    plan2explore, next for the disagreement penalty alone."""
    spread: Literal["std", "variance"] = "std"
    """Disagreement of the members: the standard deviation of their predictions (release) or the variance (article)."""
    log: bool = False
    """The intrinsic reward is the logarithm of the disagreement (release: disag_log)."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=3e-4))


@dataclass(frozen=True)
class ExplorationConfig(Settings):
    """Exploration, where training.explore is not greedy (release: expl.py)."""

    until: NonNegativeInt = 0
    """Agent steps until which the exploring behavior collects, and the task's afterwards; 0 is always (release:
    expl_until, in environment frames)."""
    intrinsic_scale: NonNegativeFloat = 1.0
    """Weight of the intrinsic reward, at least 0."""
    extrinsic_scale: NonNegativeFloat = 0.0
    """Weight of the task's reward in what the exploring behavior maximises, at least 0."""
    head: ExplorationHeadConfig = field(default_factory=ExplorationHeadConfig)
    reward_norm: RewardNormConfig = field(default_factory=RewardNormConfig)
    """Normalisation of each reward, plan2explore only (release: expl_reward_norm)."""

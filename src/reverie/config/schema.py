"""All settings of reverie, as frozen dataclasses.

The text below a field has its unit and range, the paper's symbol, and the source of its default. Defaults are those
of the authors' release (`configs.yaml`, section `defaults`); `presets/` has the named configurations. Ranges are
checked by the fields' types, other conditions in `__post_init__`, those across classes in that of `Config`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from reverie.config.schedules import Schedule, in_steps
from reverie.config.settings import Range, Settings, flatten, override, update
from reverie.errors import ConfigError

PositiveInt = Annotated[int, Range("at least 1", lambda value: value >= 1)]
NonNegativeInt = Annotated[int, Range("at least 0", lambda value: value >= 0)]
IntFrom2 = Annotated[int, Range("at least 2", lambda value: value >= 2)]
PositiveFloat = Annotated[float, Range("above 0", lambda value: value > 0)]
NonNegativeFloat = Annotated[float, Range("at least 0", lambda value: value >= 0)]
UnitInterval = Annotated[float, Range("between 0 and 1", lambda value: 0 <= value <= 1)]


@dataclass(frozen=True)
class EnvConfig(Settings):
    """Environment and its wrappers."""

    name: str = ""
    """Gymnasium id, for example ALE/Pong-v5."""
    num_envs: PositiveInt = 1
    """Environments stepped together, at least 1. The release: 1. The update ratio does not depend on it."""
    parallel: bool = True
    """Several environments step in worker processes; False steps them one after the other in this process."""
    action_repeat: PositiveInt = 1
    """Emulator frames per agent step, at least 1; their rewards are summed. Atari: 4."""
    time_limit: NonNegativeInt = 0
    """Agent steps until an episode is truncated; 0 leaves it to the environment. Atari: 27000."""
    image_keys: tuple[str, ...] = ()
    """Observations that are images although a side is shorter than 16 pixels; a bare observation is `image`."""
    vector_keys: tuple[str, ...] = ()
    """Observations that are vectors although they look like images."""
    step_timeout: NonNegativeFloat = 0.0
    """Timeout in seconds for `step` and `reset`. A worker that exceeds it is restarted. 0 disables it. With a timeout,
    a single environment has a worker process, too."""
    max_restarts_per_hour: NonNegativeInt = 10
    """Failures of environments (errors, timeouts, dead processes) within an hour after which training stops. Up to
    then they are restarted, and their episodes are truncated. 0 stops at the first failure."""
    observations: Literal["auto", "state", "pixels", "both"] = "auto"
    """Observations: the environment's own (state), the picture that it renders (pixels), or both. auto: its own, and of
    MiniGrid the agent's view as a picture. An environment that observes images keeps these. The release: pixels in
    dmc_vision, state in dmc_proprio."""
    grayscale: bool = True
    """Atari only: one channel instead of three."""
    sticky_actions: UnitInterval = 0.25
    """Atari only: probability in [0, 1] that the previous action is repeated, at each emulator frame."""
    noop_max: NonNegativeInt = 30
    """Atari only: largest number of idle frames at the start of an episode (at least one); 0 for none."""
    full_action_space: bool = False
    """Atari only: all 18 actions instead of the game's own. The release: False; the paper: True."""

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = ", but only worker processes (env.parallel) can be stopped."
        self._require(not self.step_timeout or self.parallel, "step_timeout", needed)
        both = not {*self.image_keys}.isdisjoint(self.vector_keys)
        self._require(not both, "vector_keys", ", but no key can be in env.image_keys, too.")


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


@dataclass(frozen=True)
class ReplayConfig(Settings):
    """Replay buffer and its sampler."""

    capacity: int = 2_000_000
    """Steps kept on disk, at least batch_length; the oldest episodes are evicted first."""
    batch_size: PositiveInt = 16
    """B, sequences per update, at least 1. The paper: 50."""
    batch_length: IntFrom2 = 50
    """T, steps per sequence, at least 2."""
    sampling: Literal["episodes", "steps"] = "episodes"
    """Sampler. episodes: uniform over finished episodes of at least batch_length steps (release). steps: uniform over
    all steps, across episode borders and with unfinished episodes."""
    prioritize_ends: bool = True
    """sampling=episodes only: the last window of an episode is drawn more often. Continuous control: False."""
    fsync_interval: NonNegativeFloat = 1.0
    """Seconds between two calls of fsync, which bound what a power cut takes; 0 leaves it to the system."""

    def __post_init__(self) -> None:
        super().__post_init__()
        short = f", less than one sequence of replay.batch_length={self.batch_length}."
        self._require(self.capacity >= self.batch_length, "capacity", short)


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """Training loop: lengths, intervals, device."""

    steps: PositiveInt = 100_000_000
    """Agent steps in all, prefill included. Atari: 5e7, which is 2e8 frames at action repeat 4."""
    seed: Annotated[int, Range("at least 0 and below 2**63", lambda value: 0 <= value < 2**63)] = 0
    """Seed of all generators, at least 0. The same seed and number of threads give the same run, bit for bit, on the
    same machine."""
    prefill: NonNegativeInt = 10_000
    """Random agent steps before learning. Atari: 50000."""
    prefill_max_hold: PositiveInt = 1
    """Agent steps that a random action of the prefill is held at most, at least 1. Lengths n have probabilities
    proportional to n^-2 (Dabney et al., 2021). 1: each step has an action of its own (release), with which an agent
    hardly leaves its place where actions move it to and fro."""
    pretrain_world_model: NonNegativeInt = 0
    """Updates of the world model alone, after the prefill and before all others. Not in the release. A behavior learned
    from a world model without rewards avoids the steps from which rewards could be learned."""
    pretrain: NonNegativeInt = 2
    """Updates before the agent first acts. The release: one to build its variables, and one more."""
    train_every: PositiveInt = 5
    """Agent steps between updates, at least 1. Atari: 16; the paper: 4."""
    train_steps: PositiveInt = 1
    """Updates each time, at least 1."""
    explore: Literal["greedy", "plan2explore", "model-loss", "random"] = "greedy"
    """Behavior that collects. greedy: the task's, with its samples. plan2explore: one that seeks states about whose
    successors an ensemble disagrees (Sekar et al., 2020). model-loss: one that seeks a large KL. random: uniform
    actions. The task's behavior is learned with each, and evaluated."""
    collect: Literal["local", "ray", "none"] = "local"
    """Place where environments are stepped. local: this process and its workers. ray: the collectors of a Ray cluster,
    during the updates. none: nowhere, the agent learns from recorded episodes alone (--offline); steps still count, so
    that there is an update for every train_every of them."""
    validation_share: UnitInterval = 0.1
    """collect=none: share of the recorded episodes that are held out, in [0, 1]; the world model's losses on them are
    logged at every evaluation."""
    collectors: PositiveInt = 1
    """With collect=ray: processes that step env.num_envs environments each, at least 1."""
    async_collection: Literal["auto", "on", "off"] = "auto"
    """Collection during updates. on: environments take the next train_every steps meanwhile, with the weights from
    before these updates. off: collection and updates alternate (release). auto: on with CUDA."""
    eval_every: NonNegativeInt = 100_000
    """Agent steps between evaluations; 0 for none. Atari: 250000."""
    eval_episodes: PositiveInt = 1
    """Episodes per evaluation, with the actor's mode, in separate environments; at least 1."""
    log_every: PositiveInt = 1_000
    """Agent steps between rows of metrics, at least 1."""
    video_every: NonNegativeInt = 100_000
    """Agent steps between open-loop videos; 0 for none."""
    checkpoint_every: PositiveInt = 25_000
    """Agent steps between checkpoints, at least 1. The end of training and Ctrl-C write one, too."""
    keep_checkpoints: PositiveInt = 3
    """Number of latest checkpoints kept, at least 1, next to the one with the best evaluation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the learner; auto is cuda where there is a CUDA device."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of matrix products and convolutions; norms, distributions, losses, and the output layers of critic,
    reward and discount are float32 in each. auto: bf16 on CUDA and on CPUs with AMX or AVX-512-BF16, else fp32."""
    max_nonfinite_updates: NonNegativeInt = 10
    """Skipped updates in a row (a loss or its gradients are not finite) after which training stops. 0 stops at the
    first one."""
    threads: Annotated[int, Range("between 0 and 4096", lambda value: 0 <= value <= 4096)] = 0
    """CPU threads of the learner, fixed while a run lives. 0: OMP_NUM_THREADS, or else the usable cores."""
    learners: PositiveInt = 1
    """Processes that share each batch, with a GPU each where there are any, and this number of threads each; divides
    replay.batch_size. Under torchrun: the processes that it starts."""
    cuda_graphs: bool = True
    """On CUDA: an update is recorded once and replayed with a single launch. Experimental: no GPU has run it."""
    compile: Literal["auto", "off"] = "auto"
    """auto: on CUDA with Triton, the RSSM's steps are compiled, which takes about a minute at the first update.
    Experimental: no GPU has run it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        is_valid = self.collect != "none" or self.explore == "greedy"
        self._require(is_valid, "explore", ", but with training.collect=none nothing is collected.")
        is_valid = self.collect == "ray" or self.collectors == 1
        self._require(is_valid, "collectors", ", but only training.collect=ray has several of them.")


@dataclass(frozen=True)
class RayConfig(Settings):
    """Collectors on Ray."""

    address: str = "local"
    """Cluster: local starts one on this machine, auto finds the one that runs here, or HOST:PORT of its head."""
    cpus: PositiveFloat = 1.0
    """CPUs that each collector reserves, above 0; less than 1 for environments that mostly wait."""
    schedule: Literal["fixed", "free"] = "fixed"
    """fixed: all collectors take their next segments with the weights of now, and the learner waits for all of them;
    the same seed and number of collectors give the same run, bit for bit. free: first come, first stored; faster where
    collectors are not equally fast, and not repeatable."""
    segment_length: PositiveInt = 16
    """Agent steps in each environment of a collector between two messages, at least 1."""
    weights_every: PositiveInt = 10
    """Updates between two publications of the weights with schedule=free, at least 1; fixed publishes them for each
    round of segments."""
    weights_precision: Literal["fp32", "bf16"] = "fp32"
    """Precision in which matrices are published; bf16 halves the bytes, and rounds the weights that act."""
    max_policy_lag: PositiveInt = 1_000
    """Largest number of updates between the weights that chose a segment's actions and its storage, at least 1."""


@dataclass(frozen=True)
class Config(Settings):
    """All settings of a run."""

    env: EnvConfig = field(default_factory=EnvConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    behavior: BehaviorConfig = field(default_factory=BehaviorConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        env, replay, training = self.env, self.replay, self.training
        length = f"replay.batch_length={replay.batch_length}"
        self.check_prefill(env.num_envs)
        if self.behavior.imagine_last > replay.batch_length:
            raise ConfigError(
                f"behavior.imagine_last is {self.behavior.imagine_last}, but sequences have only {length} steps; lower "
                "it, or set 0 for all steps."
            )
        if replay.batch_size % training.learners:
            possible = [str(n) for n in range(1, replay.batch_size + 1) if replay.batch_size % n == 0]
            raise ConfigError(
                f"training.learners is {training.learners}, but replay.batch_size={replay.batch_size} sequences can "
                f"only be divided among {', '.join(possible[:-1])} or {possible[-1]}; choose one of these numbers, or "
                "another batch size."
            )
        self._check_collectors()
        if self.behavior.disagreement_penalty and training.explore == "model-loss":
            raise ConfigError(
                f"behavior.disagreement_penalty is {self.behavior.disagreement_penalty:g}, but "
                "training.explore=model-loss has no ensemble that could disagree. Set it to 0, or explore by "
                "plan2explore, random or greedy."
            )
        if training.collect != "none" and training.steps < training.prefill:
            raise ConfigError(
                f"training.steps is {training.steps}, but training.prefill alone takes {training.prefill} of them; "
                "give more steps or a smaller prefill."
            )
        # An episode of n steps is stored with its reset: n + 1 entries.
        if replay.sampling == "episodes" and 0 < env.time_limit < replay.batch_length:
            raise ConfigError(
                f"{length.replace('=', ' is ')}, but env.time_limit={env.time_limit} leaves no episode that long; "
                "shorten the sequences, raise the limit, or use replay.sampling=steps."
            )

    def _check_collectors(self) -> None:
        env, training, ray = self.env, self.training, self.ray
        if training.collect != "ray":
            return
        steps = training.collectors * env.num_envs * ray.segment_length
        lag = -(-steps // training.train_every) * training.train_steps + (ray.weights_every - 1)
        if lag > ray.max_policy_lag:
            raise ConfigError(
                f"ray.max_policy_lag is {ray.max_policy_lag}, but the segments of all collectors together are "
                f"{steps} steps, for which up to {lag} updates are made before the next ones come. Raise it to {lag}, "
                "or lower ray.segment_length."
            )

    def check_prefill(self, num_envs: int) -> None:
        """Raise a `ConfigError` if the prefill has no sequence of each environment; vectors have their own number."""
        length, needed = self.replay.batch_length, num_envs * self.replay.batch_length
        if self.training.collect != "none" and self.training.prefill < needed:
            raise ConfigError(
                f"training.prefill is {self.training.prefill}, but at least {needed} steps are needed for one sequence "
                f"of replay.batch_length={length} from each of {num_envs} environments."
            )

    def override(self, **settings: Any) -> "Config":
        """Return a copy with some settings changed.

        `config.override(steps=20_000, **{"world_model.kl.scale": 0.1})`. All are set at once, so that the order of
        settings that depend on each other does not matter.

        Args:
            settings: new values by path or, in `training`, by bare name. A value may be text as on the command line
                (`"2e4"`, `"true"`, `"linear(1,0,1000)"`); that of a group is a mapping of settings, or an object.

        Raises:
            ConfigError: if a name is unknown (the nearest valid one is given), or a value does not fit.
        """
        return override(self, settings)

    def for_env(self, name: str) -> "Config":
        """Return a copy for another environment."""
        return replace(self, env=replace(self.env, name=name))


PATHS = tuple(flatten(Config()))
"""Path of every setting, in the order of the classes."""


def from_dict(data: Mapping[str, Any], base: Config | None = None) -> Config:
    """Return the inverse of `to_dict`. Absent settings have the value of `base`, or the default.

    Raises:
        ConfigError: if a name is unknown, or a value does not fit.
    """
    return update(base or Config(), data)


def config_in_steps(config: Config) -> Config:
    """Return a copy whose schedules count agent steps only, as learning does; the same object if all of them do."""
    changed = {
        path: schedule
        for path, value in flatten(config).items()
        if (schedule := in_steps(value, config.env.action_repeat)) != value
    }
    return config.override(**changed) if changed else config

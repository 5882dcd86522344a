"""Every setting of reverie, as frozen dataclasses.

A field's comment gives the paper's symbol where it has one, and where its default comes from. Defaults are those of
the authors' release (`configs.yaml`, section `defaults`); `presets.py` holds the named variations.

The classes only hold values: a check that concerns one class stands in its `__post_init__`, checks across classes in
that of `Config`; reading, writing and setting by name stand in `config_io.py`.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from reverie.errors import ConfigError as ConfigError
from reverie.schedules import Schedule
from reverie.schedules import parse_schedule as parse_schedule


class FieldError(ConfigError):
    """A field's value is wrong: `owner` is the path (or class) that holds `field`, `problem` completes the sentence.

    A class does not know where in `Config` it is used, so it names itself as the owner. `config_io` does know, and
    raises the error again with the path: `OptimizerConfig.eps ...` becomes `behavior.actor.optimizer.eps ...`.
    """

    def __init__(self, owner: str, field: str, problem: str) -> None:
        super().__init__(f"{owner}.{field}{problem}" if owner else f"{field}{problem}")
        self.owner, self.field, self.problem = owner, field, problem


def _require(condition: bool, owner: object, field: str, problem: str) -> None:
    """Raise `<owner>.<field> is <value><problem>` unless the condition holds."""
    if not condition:
        raise FieldError(type(owner).__name__, field, f" is {getattr(owner, field)}{problem}")


def _at_least(least: float, owner: object, *fields: str) -> None:
    for field in fields:
        _require(getattr(owner, field) >= least, owner, field, f", but it must be at least {least}.")


def _require_schedules(owner: object, *fields: str) -> None:
    """Check that each field is a number or a schedule, and that it starts from a finite value of at least 0."""
    for field in fields:
        value = getattr(owner, field)
        try:
            initial = parse_schedule(value, "", frames_per_step=1)(0.0)
        except ConfigError as error:
            raise FieldError(type(owner).__name__, field, str(error)) from None
        except ZeroDivisionError:
            initial = math.nan
        _require(math.isfinite(initial) and initial >= 0, owner, field, ", but it must be finite and not negative.")


@dataclass(frozen=True)
class EnvConfig:
    """The environment, and how steps are taken in it."""

    name: str = ""
    """Gymnasium id, for example ALE/Pong-v5."""
    num_envs: int = 1
    """Environments that are stepped together. The release uses 1; the update ratio does not depend on it."""
    parallel: bool = True
    """Step several environments in worker processes; otherwise one after the other in this process."""
    action_repeat: int = 1
    """Emulator frames per agent step; rewards are summed. Atari: 4."""
    time_limit: int = 0
    """Agent steps after which an episode is truncated; 0 leaves it to the environment. Atari: 27000."""
    step_timeout: float = 0.0
    """Seconds that a step or reset may take in a worker process; more and it is made anew. 0 waits for ever. With a
    limit, a single environment has a worker process, too."""
    max_restarts_per_hour: int = 10
    """Failures of environments within an hour (errors, time-outs, dead processes) after which training stops; until
    then they are made anew, and their episodes count as truncated. 0 stops at the first one."""
    image_size: tuple[int, int] = (64, 64)
    """Height and width that images are resized to. The network's convolutions need 64x64."""
    grayscale: bool = True
    """Atari only: one channel instead of three."""
    sticky_actions: float = 0.25
    """Atari only: probability, at each emulator frame, that the previous action is repeated."""
    noop_max: int = 30
    """Atari only: an episode starts with 1 to this many idle frames; 0 for none."""
    full_action_space: bool = False
    """Atari only: all 18 actions instead of the game's own. The release: False; the paper: True."""

    def __post_init__(self) -> None:
        _at_least(1, self, "num_envs", "action_repeat")
        _at_least(0, self, "time_limit", "step_timeout", "max_restarts_per_hour", "noop_max")
        _require(
            not self.step_timeout or self.parallel,
            self,
            "step_timeout",
            ", but only worker processes (env.parallel) can be stopped.",
        )
        _require(0 <= self.sticky_actions <= 1, self, "sticky_actions", ", but a probability is between 0 and 1.")
        fits = tuple(self.image_size) == (64, 64)
        _require(fits, self, "image_size", ", but the convolutions of DreamerV2 fit (64, 64) only.")


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam as in the release: clip by global norm, decay weights, then step."""

    lr: Schedule = 1e-4
    """Learning rate; a number or a schedule over agent steps."""
    eps: float = 1e-5
    """Added to sqrt(v) outside the bias correction, as TensorFlow does."""
    max_grad_norm: float = 100.0
    """Largest global gradient norm; 0 does not clip."""
    weight_decay: float = 1e-6
    """Each step multiplies the weights by 1 - weight_decay (not scaled by the learning rate)."""
    weight_decay_on: Literal["all", "kernels"] = "all"
    """What is decayed: every parameter (release), or only matrices and convolution kernels."""

    def __post_init__(self) -> None:
        _require_schedules(self, "lr")
        _require(self.eps > 0, self, "eps", ", but it must be above 0.")
        _require(self.max_grad_norm >= 0, self, "max_grad_norm", "; use 0 for no clipping.")
        _require(0 <= self.weight_decay < 1, self, "weight_decay", ", but it must be at least 0 and below 1.")


@dataclass(frozen=True)
class MLPConfig:
    """A stack of dense layers with ELU."""

    layers: int = 4
    """Hidden layers."""
    units: int = 400
    """Width of each."""
    layer_norm: bool = False
    """Layer norm between each dense layer and its ELU. True in crafter."""

    def __post_init__(self) -> None:
        _at_least(0, self, "layers")
        _at_least(1, self, "units")


@dataclass(frozen=True)
class EncoderConfig:
    """Observations to one embedding: images through convolutions, the rest through an MLP."""

    keys: tuple[str, ...] = ()
    """Observation keys that are read (decoder: predicted); empty means all of these kinds."""
    kinds: Literal["all", "images", "vectors"] = "all"
    """Kinds of observations that are read (decoder: predicted). The release: images in dmc_vision, vectors in
    dmc_proprio."""
    cnn_depth: int = 48
    """Channels of the first convolution; each further one doubles them."""
    cnn_activation: Literal["elu", "relu"] = "elu"
    """Behind each convolution but the decoder's last. Dreamer (V1): relu, which has no fast path on a CPU."""
    mlp: MLPConfig = MLPConfig()
    """For vector observations, concatenated in the order of the observation space."""
    layer_norm: bool = False
    """Layer norm after each convolution. True in crafter."""

    def __post_init__(self) -> None:
        _at_least(1, self, "cnn_depth")


@dataclass(frozen=True)
class DecoderConfig(EncoderConfig):
    """Features back to observations: the mirror image of the encoder, p(x_t | h_t, s_t)."""


@dataclass(frozen=True)
class RSSMConfig:
    """The recurrent state-space model."""

    latents: Literal["categorical", "gaussian", "binary"] = "categorical"
    """Kind of the stochastic state s_t. The article: categorical; Dreamer: gaussian. Binary: stoch * classes bits,
    so that a sample is as wide as a categorical one."""
    stoch: int = 32
    """Number of latent variables."""
    classes: int = 32
    """Classes of each categorical variable; Gaussian variables have none."""
    deter: int = 1024
    """Size of the deterministic state h_t, the GRU's."""
    hidden: int = 1024
    """Width of the dense layers around the GRU."""
    layer_norm: bool = False
    """Layer norm in those dense layers. True in crafter."""
    gru_layer_norm: bool = True
    """Layer norm inside the GRU. The release never turns it off, whatever the other layers do."""
    std_activation: Literal["sigmoid2", "softplus"] = "sigmoid2"
    """Gaussian latents only: how the standard deviation is made positive."""
    min_std: float = 0.1
    """Gaussian latents only: added to it."""

    def __post_init__(self) -> None:
        _at_least(1, self, "stoch", "classes", "deter", "hidden")
        _require(self.min_std > 0, self, "min_std", ", but it must be above 0.")


@dataclass(frozen=True)
class KLConfig:
    """What posterior and prior cost: KL(posterior || prior), balanced, or its two parts with a weight each."""

    objective: Literal["balanced", "split"] = "balanced"
    """balanced: scale * KL with balanced gradients (paper, eq. 2; release). split: the next two settings' weighted
    difference (article, world model loss); the remaining ones of this part have no effect then."""
    prior_scale: Schedule = 0.08
    """eta_t, for objective=split: weight of the prior's cross entropy."""
    posterior_entropy_scale: Schedule = 0.02
    """eta_q, for objective=split: weight of the posterior's entropy."""
    scale: Schedule = 1.0
    """beta; 0.1 on Atari."""
    balance: float = 0.8
    """alpha: share of the gradient that moves the prior towards the posterior. Exactly 0.5 is the plain KL, whose whole
    gradient moves both sides (release): twice as much as at 0.501."""
    equal_scale: bool = False
    """At balance=0.5, halve the plain KL's gradient, so that it is that of 0.499 and 0.501 (not in the release)."""
    free_nats: Schedule = 0.0
    """KL below this many nats costs nothing; 0 on Atari, 1 for continuous control."""
    free_average: bool = True
    """Apply the free nats to the mean over the batch instead of to each step, at any balance. The release means it too,
    but at balance=0.5 always applies them to each step: False there is its branch."""
    forward: bool = False
    """Swap the roles: KL(prior || posterior) (release option, off everywhere)."""

    def __post_init__(self) -> None:
        _require_schedules(self, "prior_scale", "posterior_entropy_scale", "scale", "free_nats")
        _require(0 <= self.balance <= 1, self, "balance", ", but it must be between 0 and 1.")


@dataclass(frozen=True)
class LossScales:
    """Weights of the negative log-likelihoods in the world model's objective."""

    image: float = 1.0
    """eta_x for images; the log-likelihood is summed over pixels."""
    vector: float = 1.0
    """eta_x for vectors; summed over their entries."""
    reward: float = 1.0
    """eta_r."""
    discount: float = 1.0
    """eta_gamma; 5 on Atari."""

    def __post_init__(self) -> None:
        _at_least(0, self, "image", "vector", "reward", "discount")


@dataclass(frozen=True)
class HeadGradients:
    """Whether a head's loss trains the representation too, or only the head itself (the article's ablations)."""

    image: bool = True
    """False: "No Image Gradients"."""
    vector: bool = True
    """The same for vector observations."""
    reward: bool = True
    """False: "No Reward Gradients"."""
    discount: bool = True
    """The same for the discount head; has no effect where predict_discount is off."""


@dataclass(frozen=True)
class WorldModelConfig:
    """Encoder, RSSM, heads, objective, and their optimizer."""

    encoder: EncoderConfig = EncoderConfig()
    rssm: RSSMConfig = RSSMConfig()
    decoder: DecoderConfig = DecoderConfig()
    reward_head: MLPConfig = MLPConfig()
    discount_head: MLPConfig = MLPConfig()
    predict_discount: bool = True
    """Learn where episodes end (g_t); otherwise the discount is the constant below everywhere. False for dmc."""
    discount: float = 0.99
    """gamma; 0.999 on Atari, 0.995 in the paper. The discount head's labels are gamma * (1 - is_terminal)."""
    reward_transform: Literal["tanh", "identity", "sign"] = "tanh"
    """Applied to rewards before the model learns them; scores are always raw."""
    normalize_vectors: bool = False
    """Standardise vector observations by their running mean and deviation. The release reads them as they are."""
    kl: KLConfig = KLConfig()
    loss_scales: LossScales = LossScales()
    head_gradients: HeadGradients = HeadGradients()
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4)

    def __post_init__(self) -> None:
        _require(0 <= self.discount <= 1, self, "discount", ", but it must be between 0 and 1.")


@dataclass(frozen=True)
class ActorConfig(MLPConfig):
    """pi(a | s)."""

    distribution: Literal["auto", "trunc_normal", "tanh_normal"] = "auto"
    """Continuous actions: auto is trunc_normal. Discrete actions are always one-hot."""
    min_std: float = 0.1
    """Continuous actions: added to the standard deviation."""
    init_std: float = 0.0
    """distribution=tanh_normal only: standard deviation of an untrained policy, without min_std. Dreamer (V1): 5. 0
    shifts nothing, which gives 0.69 (release)."""
    gradient: Literal["auto", "reinforce", "dynamics", "both"] = "auto"
    """auto: reinforce for discrete actions, dynamics backpropagation for continuous ones (release)."""
    dynamics_weight: Schedule = 0.1
    """eta_d, for gradient=both. The article: linear from 0.1 to 0 over the first 10M frames."""
    reinforce_weight: Schedule | None = None
    """eta_s, for gradient=both; None is 1 - eta_d (release). The article: 0.9."""
    reinforce_sample: Literal["detached", "release"] = "detached"
    """For gradient=both with continuous actions. detached: log pi of a sample without gradient (article). release: the
    sample keeps its gradient, which cancels the Reinforce term. Discrete actions: no difference."""
    entropy: Schedule = 2e-3
    """eta_e; 1e-3 on Atari."""
    exploration_noise: float = 0.0
    """Noise on collected actions: share of random choices, or standard deviation. Dreamer (V1): 0.3."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=8e-5)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_schedules(self, "dynamics_weight", "entropy")
        if self.reinforce_weight is not None:
            _require_schedules(self, "reinforce_weight")
            unused = f", but it is used with gradient=both only, and gradient is {self.gradient}."
            _require(self.gradient == "both", self, "reinforce_weight", unused)
        _require(self.min_std > 0, self, "min_std", ", but it must be above 0.")
        _at_least(0, self, "init_std")
        _require(0 <= self.exploration_noise <= 1, self, "exploration_noise", ", but it must be between 0 and 1.")


@dataclass(frozen=True)
class CriticConfig(MLPConfig):
    """v(s), and the target critic that it bootstraps from."""

    slow_target: bool = True
    """Bootstrap from a copy that is updated now and then; otherwise from the critic itself."""
    target_update_interval: int = 100
    """Updates between two copies of the critic into the target critic."""
    target_tau: float = 1.0
    """Share of the critic that a copy takes over; 1 is a hard copy."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=2e-4)

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(1, self, "target_update_interval")
        _require(0 < self.target_tau <= 1, self, "target_tau", ", but it must be above 0 and at most 1.")


@dataclass(frozen=True)
class RewardNormConfig:
    """Division of imagined rewards by a running mean of their magnitude."""

    momentum: float = 1.0
    """Of the running mean; 1 never moves it, so that rewards stay as they are (release)."""
    scale: float = 1.0
    """The result is multiplied by this."""
    eps: float = 1e-8
    """Added to the magnitude."""

    def __post_init__(self) -> None:
        _require(0 <= self.momentum <= 1, self, "momentum", ", but it must be between 0 and 1.")
        _require(self.scale > 0, self, "scale", ", but it must be above 0.")
        _require(self.eps > 0, self, "eps", ", but it must be above 0.")


@dataclass(frozen=True)
class BehaviorConfig:
    """Learning to act inside the world model."""

    horizon: int = 15
    """H: imagined steps from every state of the batch."""
    return_lambda: float = 0.95
    """lambda of the lambda-return."""
    long_term_entropy: bool = False
    """Add actor.entropy * H(pi), weighted by whether the episode continues, to the imagined rewards, so that the critic
    values states in which the policy will be random (the article's "long-term entropy", tried without benefit)."""
    actor: ActorConfig = ActorConfig()
    critic: CriticConfig = CriticConfig()
    reward_norm: RewardNormConfig = RewardNormConfig()

    def __post_init__(self) -> None:
        _require(self.horizon >= 2, self, "horizon", ", but the actor's loss needs at least 2.")
        _require(0 <= self.return_lambda <= 1, self, "return_lambda", ", but it must be between 0 and 1.")


@dataclass(frozen=True)
class ReplayConfig:
    """What is remembered, and how training sequences are drawn from it."""

    capacity: int = 2_000_000
    """Steps kept on disk; the oldest episodes are dropped first."""
    batch_size: int = 16
    """B: sequences per update. The paper: 50."""
    batch_length: int = 50
    """T: steps per sequence."""
    sampling: Literal["episodes", "steps"] = "episodes"
    """episodes: uniform over finished episodes of at least batch_length steps (release).
    steps: uniform over all steps, across episode borders and unfinished episodes included."""
    prioritize_ends: bool = True
    """sampling=episodes only: raise the chance of an episode's last window. False for dmc."""
    fsync_interval: float = 1.0
    """Seconds within which stored steps are forced onto the disk, so that a power cut takes no more; 0 leaves it to the
    system."""

    def __post_init__(self) -> None:
        _at_least(1, self, "batch_size")
        _at_least(2, self, "batch_length")
        _at_least(0, self, "fsync_interval")
        short = f", less than one sequence of replay.batch_length={self.batch_length}."
        _require(self.capacity >= self.batch_length, self, "capacity", short)


@dataclass(frozen=True)
class TrainingConfig:
    """The loop: how long, how often, on what."""

    steps: int = 100_000_000
    """Agent steps in all, prefill included. Atari: 5e7, which is 2e8 frames at action repeat 4."""
    seed: int = 0
    """The same seed and number of threads give the same run on the same machine, bit for bit."""
    prefill: int = 10_000
    """Random agent steps before learning starts. Atari: 50000."""
    pretrain_world_model: int = 0
    """Updates of the world model alone, after the prefill and before all others (not in the release). Behavior that is
    learned from a world model without rewards avoids the steps from which rewards could be learned."""
    pretrain: int = 2
    """Updates before the agent first acts (the release does one to build its variables, and one more)."""
    train_every: int = 5
    """Agent steps between updates. Atari: 16; the paper: 4."""
    train_steps: int = 1
    """Updates each time."""
    async_collection: Literal["auto", "on", "off"] = "auto"
    """on: environments take the next train_every steps while the agent learns, chosen by the weights from before these
    updates. off: they stand still meanwhile (release). auto: on where the agent learns on CUDA."""
    eval_every: int = 100_000
    """Agent steps between evaluations; 0 for none. Atari: 250000."""
    eval_episodes: int = 1
    """Episodes per evaluation, with the actor's mode, in separate environments."""
    log_every: int = 1_000
    """Agent steps between rows of metrics."""
    video_every: int = 100_000
    """Agent steps between open-loop videos; 0 for none."""
    checkpoint_every: int = 25_000
    """Agent steps between checkpoints; one is always written at the end and on Ctrl-C."""
    keep_checkpoints: int = 3
    """Latest checkpoints that are kept, besides the one with the best evaluation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a CUDA device if there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of products and convolutions; norms, distributions, losses, and the output layers of critic, reward and
    discount are float32 in each. auto: bf16 on CUDA and on CPUs with AMX or AVX-512-BF16, fp32 elsewhere."""
    max_nonfinite_updates: int = 10
    """Updates in a row that are skipped, because a loss or its gradients are not finite, before training stops. 0 stops
    at the first one."""
    threads: int = 0
    """CPU threads of the learner. 0: OMP_NUM_THREADS, or else one for each core that the process may use, divided by
    the runs on them; that number changes when runs begin and end."""
    cuda_graphs: bool = True
    """On a GPU: record an update, and a decision, once and repeat it with a single launch."""
    compile: Literal["auto", "off"] = "auto"
    """auto: on a GPU with Triton, compile the RSSM's steps, which takes about a minute at the first update."""

    def __post_init__(self) -> None:
        _at_least(1, self, "steps", "train_every", "train_steps", "eval_episodes", "log_every", "checkpoint_every")
        _at_least(0, self, "prefill", "pretrain_world_model", "pretrain", "eval_every", "video_every")
        _at_least(0, self, "threads", "seed", "max_nonfinite_updates")
        _at_least(1, self, "keep_checkpoints")


@dataclass(frozen=True)
class Config:
    """Everything that defines a run, apart from its folder."""

    env: EnvConfig = EnvConfig()
    world_model: WorldModelConfig = WorldModelConfig()
    behavior: BehaviorConfig = BehaviorConfig()
    replay: ReplayConfig = ReplayConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        env, replay, training = self.env, self.replay, self.training
        needed = env.num_envs * replay.batch_length
        if training.prefill < needed:
            raise FieldError("training", "prefill", (
                f" is {training.prefill}, but at least {needed} steps are needed for one sequence of "
                f"replay.batch_length={replay.batch_length} from each of env.num_envs={env.num_envs} environments."
            ))  # fmt: skip
        if training.steps < training.prefill:
            raise FieldError("training", "steps", (
                f" is {training.steps}, but training.prefill alone takes {training.prefill} of them; "
                "give more steps or a smaller prefill."
            ))  # fmt: skip
        # An episode of n steps is stored with its reset: n + 1 entries.
        if replay.sampling == "episodes" and 0 < env.time_limit < replay.batch_length:
            raise FieldError("replay", "batch_length", (
                f" is {replay.batch_length}, but env.time_limit={env.time_limit} leaves no episode that long; "
                "shorten the sequences, raise the limit, or use replay.sampling=steps."
            ))  # fmt: skip

    def override(self, **settings: Any) -> "Config":
        """Copy with some settings changed, named by their path or, in `training`, by their bare name.

        `config.override(steps=20_000, **{"world_model.kl.scale": 0.1})`. All are set at once, so that the order of
        settings that depend on each other does not matter.

        Raises:
            ConfigError: if a name is unknown (the nearest valid one is given), or a value does not fit.
        """
        from reverie.config_io import set_fields

        return set_fields(self, settings)

    def for_env(self, name: str) -> "Config":
        """Copy for another environment."""
        return replace(self, env=replace(self.env, name=name))

"""All settings of reverie, as frozen dataclasses; those of the agent are in `agent.py`.

The text below a field has its unit and range, the paper's symbol, and the source of its default. Defaults are those
of the authors' release (`configs.yaml`, section `defaults`); `presets/` has the named configurations. Ranges are
checked by the fields' types, other conditions in `__post_init__`, those across classes in that of `Config`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from reverie.config.agent import (
    BehaviorConfig,
    ExplorationConfig,
    IntFrom2,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    UnitInterval,
    WorldModelConfig,
)
from reverie.config.schedules import in_steps
from reverie.config.settings import Range, Settings, flatten, override, update
from reverie.errors import ConfigError


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

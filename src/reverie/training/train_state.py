"""State of a run: what a checkpoint holds."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from reverie import agents
from reverie.acting import AgentPolicy
from reverie.collectors.collector import Collector
from reverie.collectors.random_policy import RandomPolicy
from reverie.dreamer import ActState, Dreamer, State
from reverie.errors import EnvError
from reverie.replay import TRANSACTION_STEPS, ReplayBuffer
from reverie.runs.checkpoint import Snapshot
from reverie.runs.provenance import runtime, runtime_changes
from reverie.training import env_states
from reverie.training.callbacks import CallbackList
from reverie.training.counters import Counters
from reverie.training.every import Every
from reverie.training.metrics import Metrics

POLICY = "policy"
"""File of a checkpoint with the state of the policy."""


@dataclass
class TrainState:
    """The parts of a run that change while it trains. A snapshot is taken between two steps, with nothing under way.

    A run that continues from a snapshot computes, bit for bit, what the run without the interruption would have,
    provided that device, number of threads and environments are the same, and that every environment can be restored
    (see `reverie.envs.step_wrapper`).
    """

    agent: Dreamer
    replay: ReplayBuffer
    collector: Collector
    policy: AgentPolicy
    """Acts in the training environments."""
    schedules: dict[str, Every]
    sample_rng: np.random.Generator
    prefill_policy: RandomPolicy
    callbacks: CallbackList
    metrics: Metrics = field(default_factory=Metrics)
    counters: Counters = field(default_factory=Counters)
    messages: list[str] = field(default_factory=list)
    """Messages for the user that were not shown yet."""
    _is_env_error_reported: bool = False

    @property
    def is_prefilled(self) -> bool:
        """True if there are enough steps, and an episode if whole episodes are sampled (SPEC 41)."""
        config, counters = self.agent.config, self.counters
        if config.training.collect == "none":
            return True
        num_steps = counters.steps + counters.imported_steps
        has_episode = counters.episodes > 0 or counters.imported_steps > 0
        return num_steps >= config.training.prefill and (has_episode or config.replay.sampling == "steps")

    def num_updates_due(self) -> int:
        """Return the updates that are due at this step, by `training.train_every` and `train_steps`."""
        return self.agent.config.training.train_steps * self.schedules["train"](self.counters.steps)

    def count_steps(self, steps: int, episodes: int) -> None:
        """Count agent steps, and the ends of episodes among them; the agent's schedules follow the steps."""
        counters = self.counters
        counters.steps += steps
        counters.frames = counters.steps * self.collector.frames_per_step
        counters.episodes += episodes
        self.agent.agent_steps = counters.steps
        if self.agent.explorer is not None:
            self.agent.explorer.schedule(counters.steps)

    def pop_messages(self, log: Callable[[str], None]) -> None:
        """Print the messages, each once."""
        messages, self.messages = self.messages, []
        for message in messages:
            log(message)

    def snapshot(self) -> Snapshot:
        """Return everything, after a commit of the replay."""
        agent, acting = agents.snapshot(self.agent), self.policy.state
        self.counters.last_due = {name: every.last for name, every in self.schedules.items()}
        envs = None
        try:
            envs = env_states.capture(self.collector, self.replay)
        except EnvError as error:
            if not self._is_env_error_reported:
                self._is_env_error_reported = True
                self.messages.append(f"{error} Checkpoints lack its state, and a resumed run begins new episodes.")
        # Others may turn out not to repeat their steps when the run is resumed: a killed process must not lose one.
        saves_state = envs is not None and all(env.own is not None for env in envs.envs)
        self.replay.transaction_steps = TRANSACTION_STEPS if saves_state else 1
        packed, env_tensors = env_states.pack(envs)
        training = {
            "counters": asdict(self.counters),
            "sample_rng": self.sample_rng.bit_generator.state,
            "prefill_policy": self.prefill_policy.state(),
            "metrics": self.metrics.state(),
            "runtime": runtime(self.agent.config),
            env_states.ENVIRONMENTS: packed,
            "callbacks": self.callbacks.states(),
            "replay": self.replay.commit(),
        }
        policy = {**acting.latent._asdict(), "action": acting.action} if acting else {}
        tensors = {**agent.tensors, **env_tensors, POLICY: policy}
        return Snapshot(tensors, {**agent.state, "training": training})

    def restore(self, snapshot: Snapshot) -> tuple[int, int]:
        """Restore a snapshot. Messages say what could not be restored exactly, errors what does not fit at all.

        Returns:
            Steps that the replay has stored after the snapshot, and how many of them are kept, since their environments
            cannot repeat them.
        """
        agents.restore(self.agent, snapshot)
        training = snapshot.state["training"]
        vars(self.counters).update(vars(Counters(**training["counters"])))
        for name, every in self.schedules.items():
            every.last = self.counters.last_due[name]
        self.sample_rng.bit_generator.state = training["sample_rng"]
        self.prefill_policy.restore(training["prefill_policy"])
        self.metrics.restore(training["metrics"], self.agent.device)
        self.messages += self.callbacks.restore(training["callbacks"])
        self.replay.check(training["replay"])
        if self.counters.is_pretrained or self.is_prefilled:
            self.replay.check_sampleable(self.agent.config.env.action_repeat)
        if not self.replay.rewind(training["replay"]):
            self.messages.append(
                "The replay has lost steps that it held at this checkpoint. Training continues without them, and not "
                "bit for bit as it did then."
            )
        later = self.replay.num_uncommitted()
        if message := runtime_changes(training["runtime"], runtime(self.agent.config)):
            self.messages.append(message)
        if not self.counters.steps:  # no environment has been reset yet
            return later, 0
        problems = env_states.restore(snapshot, self.agent.config.env, self.collector, self.replay)
        failed = [index for index, problem in enumerate(problems) if problem]
        acting = {name: tensor.to(self.agent.device) for name, tensor in snapshot.tensors[POLICY].items()}
        if acting and len(failed) < len(problems):
            self.policy.state = ActState(action=acting.pop("action"), latent=State(**acting))
        if not failed:
            return later, 0
        self.messages += env_states.describe(problems)
        envs = None if len(failed) == len(problems) else failed
        num_steps, num_ends = self.replay.recover_uncommitted(envs)
        self.replay.truncate_episodes(envs)
        self.count_steps(num_steps, num_ends)
        if num_steps and self.counters.is_pretrained:
            self.counters.pending_updates += self.num_updates_due()
        return later, num_steps

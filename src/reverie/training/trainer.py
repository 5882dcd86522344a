"""The training loop: collect, learn, and call what watches the run (SPEC 40 to 44).

`build.py` creates the parts; each has a module of its own.
"""

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from reverie import kernels
from reverie.dreamer import Dreamer
from reverie.errors import ReverieError
from reverie.replay import ReplayBuffer
from reverie.training.callbacks import CallbackList, Run
from reverie.training.checkpointing import Checkpointing
from reverie.training.collectors import Collector, Policy, RandomPolicy, Transition
from reverie.training.failure_budget import FailureBudget
from reverie.training.learner import Learner
from reverie.training.metrics import Metrics
from reverie.training.nonfinite import Diverged
from reverie.training.prefill import Prefill
from reverie.training.stop_signal import Interrupted, StopSignal
from reverie.training.train_state import TrainState


@dataclass
class Trainer:
    """Trains an agent until `config.training.steps`."""

    run: Run
    """The run as callbacks see it, with configuration, agent and counters."""
    state: TrainState
    """Everything that a checkpoint holds."""
    collector: Collector
    random_policy: RandomPolicy
    """Acts in the prefill; later the agent's policy does, which is part of the state."""
    prefill: Prefill
    replay: ReplayBuffer
    learner: Learner
    callbacks: CallbackList
    checkpointing: Checkpointing
    metrics: Metrics
    failure_budget: FailureBudget
    stop_signal: StopSignal
    resume_command: str
    resources: ExitStack
    """Environments, files, threads and the display, which are open while the run trains."""
    _transitions: list[Transition] = field(default_factory=list)
    """Those that `on_step` was not called with yet."""

    def train(self) -> Dreamer:
        """Train to the end.

        Returns:
            The trained agent.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM, and a checkpoint.
            ReverieError: what a user can correct; the state is saved, unless it is not finite.
        """
        with self.resources:
            try:
                self._loop()
            except (Exception, SystemExit) as error:  # rich exits where the reader of a pipe has gone
                if not isinstance(error, Diverged):
                    with suppress(ReverieError):
                        self.checkpointing.save()
                raise
        return self.run.agent

    def _loop(self) -> None:
        counters, settings = self.run.counters, self.run.config.training
        self.callbacks.on_start(self.run)
        self._prefill()
        self._pretrain()
        self._make_pending_updates()
        self._on_step()
        while counters.steps < settings.steps and not self._is_stopping:
            self._collect(self.state.policy, max_steps=settings.steps - counters.steps)
            for metrics in self.learner.updates(self.state.updates_due()):
                self.callbacks.on_update(counters, metrics)
            self._on_step()
        self._end()

    def _prefill(self) -> None:
        """Take random steps, until there are enough and, where whole episodes are sampled, one has ended (SPEC 41)."""
        counters, steps = self.run.counters, self.run.config.training.steps
        while not self.prefill.is_complete(counters) and counters.steps < steps and not self._is_stopping:
            self._collect(self.random_policy, max_steps=1)
            self.flush()
            self.prefill.check(counters)
            self._on_step()

    def _pretrain(self) -> None:
        """Make the updates before the agent first acts: of the world model alone, then of the whole agent."""
        counters, settings = self.run.counters, self.run.config.training
        if counters.is_pretrained or self._is_stopping:
            return
        self.replay.check_sampleable(self.collector.frames_per_step)
        if kernels.compiles(self.run.agent):
            self.run.log("Compiling parts of the model: the first updates take about a minute longer, once.")
        num_updates = settings.pretrain_world_model + settings.pretrain
        while counters.pretraining_updates < num_updates and not self._is_stopping:
            is_world_model_only = counters.pretraining_updates < settings.pretrain_world_model
            for metrics in self.learner.updates(1, is_world_model_only):
                counters.pretraining_updates += 1
                counters.is_pretrained = counters.is_row_due = counters.pretraining_updates == num_updates
                self.callbacks.on_update(counters, metrics)
        counters.is_pretrained = counters.pretraining_updates >= num_updates

    def _make_pending_updates(self) -> None:
        """Make the updates that are due for steps which were recovered when the run was resumed."""
        counters = self.run.counters
        while counters.pending_updates and not self._is_stopping:
            for metrics in self.learner.updates(1):
                counters.pending_updates -= 1
                counters.is_row_due = not counters.pending_updates
                self.callbacks.on_update(counters, metrics)

    def _end(self) -> None:
        if stop := self.callbacks.stop:
            self.run.log(f"Training ends at step {self.run.counters.steps:,}. {stop.reason}")
        self.callbacks.on_end(is_interrupted=lambda: self.stop_signal.requested)
        if self.stop_signal.requested:
            path = self.checkpointing.save()
            raise Interrupted(
                f"Stopped at step {self.run.counters.steps:,} and saved {path}. Continue with {self.resume_command}.",
                self.stop_signal.signal,
            )

    @property
    def _is_stopping(self) -> bool:
        return self.stop_signal.requested or self.callbacks.stop is not None

    def _on_step(self) -> None:
        transitions, self._transitions = self._transitions, []
        self.callbacks.on_step(self.run.counters, transitions)

    def _collect(self, policy: Policy, max_steps: int) -> None:
        """Take the next steps, or with asynchronous collection get those taken during the last updates."""
        with self.metrics.timer(self.collector.phase):
            transitions = self.collector.step(policy, max_steps)
        self._store(transitions)

    def flush(self) -> None:
        """Store steps that are under way: a checkpoint is of a moment without any."""
        self._store(self.collector.flush())

    def _store(self, transitions: list[Transition]) -> None:
        """Add steps to the replay and to all counts."""
        counters, frames_per_step = self.run.counters, self.collector.frames_per_step
        self._transitions += transitions
        for transition in transitions:
            with self.metrics.timer("replay"):
                for step, mask in transition.steps:
                    self.replay.add(step, mask)
                if transition.failed:
                    self.replay.truncate_episodes(transition.failed)
            counters.steps += transition.num_steps
            counters.frames = counters.steps * frames_per_step
            counters.episodes += len(transition.episodes)
            self.metrics.count("frames", transition.num_steps * frames_per_step)
            self.metrics.spend("collect", transition.seconds)
        self.run.agent.agent_steps = counters.steps
        # Only when everything is stored: each of these may end the run.
        for transition in transitions:
            for episode in transition.episodes:
                self.callbacks.on_episode(episode)
            if transition.num_steps:
                self.failure_budget.record_success()
            for error in transition.errors:
                counters.restarts += 1
                self.run.log(self.failure_budget.record(error, "It was restarted; its episode counts as truncated."))

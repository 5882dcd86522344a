"""The training loop: collect, learn, and call what watches the run (SPEC 40 to 44).

`build.py` creates the parts; each has a module of its own.
"""

from contextlib import ExitStack, suppress
from dataclasses import dataclass

from reverie import kernels
from reverie.dreamer import Dreamer
from reverie.training.callbacks import Run
from reverie.training.checkpointing import Checkpointing
from reverie.training.collection import Collection
from reverie.training.learner import Learner
from reverie.training.loggers import Loggers
from reverie.training.nonfinite import Diverged
from reverie.training.stop_signal import Interrupted, StopSignal
from reverie.training.train_state import TrainState


@dataclass
class Trainer:
    """Trains an agent until `config.training.steps`."""

    run: Run
    """The run as callbacks see it, with configuration, agent and counters."""
    state: TrainState
    """Everything that a checkpoint holds."""
    collection: Collection
    learner: Learner
    checkpointing: Checkpointing
    loggers: Loggers
    stop_signal: StopSignal
    resume_command: str
    resources: ExitStack
    """Environments, files, threads and the display, which are open while the run trains."""

    def train(self) -> Dreamer:
        """Train to the end, and return the agent; raise Interrupted after Ctrl-C or SIGTERM and a checkpoint."""
        with self.resources:
            self.run.counters.start_clock()
            try:
                self._loop()
            except (Exception, SystemExit) as error:  # rich exits where the reader of a pipe has gone
                if not isinstance(error, Diverged):
                    with suppress(Exception):  # The first error is the one that is raised.
                        self.checkpointing.save()
                raise
        return self.run.agent

    def _loop(self) -> None:
        self.state.callbacks.on_start(self.run)
        self._prefill()
        self._pretrain()
        self._catch_up()
        self._on_step()  # what is due before the agent first acts, as an evaluation
        while self._steps_left and not self._is_stopping:
            self.collection.step(self.state.policy, self._steps_left)
            for metrics in self.learner.updates(self.state.num_updates_due()):
                self.state.callbacks.call("on_update", self.run.counters, metrics)
            self.collection.flush()
            self._on_step()
        self._end()

    def _prefill(self) -> None:
        """Take random steps, until there are enough and, where whole episodes are sampled, one has ended (SPEC 41)."""
        while not self.state.is_prefilled and self._steps_left and not self._is_stopping:
            missing = self.run.config.training.prefill - self.run.counters.steps
            self.collection.step(self.state.prefill_policy, max(1, min(missing, self._steps_left)))
            self.collection.flush()
            self._on_step()

    def _pretrain(self) -> None:
        """Make the updates before the agent first acts: of the world model alone, then of the whole agent."""
        counters, settings = self.run.counters, self.run.config.training
        if counters.is_pretrained or self._is_stopping:
            return
        self.state.replay.check_sampleable(self.run.config.env.action_repeat)
        if kernels.compiles(self.run.agent):
            self.run.log("Compiling parts of the model: the first updates take about a minute longer, once.")
        num_updates = settings.pretrain_world_model + settings.pretrain
        while counters.pretraining_updates < num_updates and not self._is_stopping:
            is_world_model_only = counters.pretraining_updates < settings.pretrain_world_model
            for metrics in self.learner.updates(1, is_world_model_only):
                counters.pretraining_updates += 1
                counters.is_pretrained = counters.is_row_due = counters.pretraining_updates == num_updates
                self.state.callbacks.call("on_update", counters, metrics)
        counters.is_pretrained = counters.pretraining_updates >= num_updates

    def _catch_up(self) -> None:
        """Make the updates that are due for steps which were kept when the run was resumed."""
        counters = self.run.counters
        while counters.pending_updates and not self._is_stopping:
            for metrics in self.learner.updates(1):
                counters.pending_updates -= 1
                self.state.callbacks.call("on_update", counters, metrics)

    def _on_step(self) -> None:
        self.state.callbacks.on_step(self.run.counters, self.collection.pop_transitions())

    def _end(self) -> None:
        counters, signal = self.run.counters, self.stop_signal
        if stop := self.state.callbacks.stop:
            self.run.log(f"Training ends at step {counters.steps:,}. {stop.reason}")
        self.state.callbacks.on_end(is_interrupted=lambda: signal.requested)
        if not signal.requested:
            self.loggers.close("finished")
            return
        path = self.checkpointing.save()
        self.loggers.close("interrupted")
        how = f"Stopped at step {counters.steps:,} and saved {path}. Continue with {self.resume_command}."
        raise Interrupted(how, signal.signal)

    @property
    def _steps_left(self) -> int:
        return max(0, self.run.config.training.steps - self.run.counters.steps)

    @property
    def _is_stopping(self) -> bool:
        return self.stop_signal.requested or self.state.callbacks.stop is not None

"""The training loop: collect, learn, evaluate, save (SPEC 40 to 44)."""

import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from reverie import kernels
from reverie.acting import AgentPolicy
from reverie.agents import build_agent, parameter_counts
from reverie.config import Config, as_text
from reverie.devices import resolve_device
from reverie.dreamer import Dreamer
from reverie.envs import EnvFactory, make_env
from reverie.errors import CheckpointError, EnvError, ReverieError
from reverie.replay import ReplayBuffer
from reverie.runs.checkpoints import Checkpoints, Snapshot, understood
from reverie.runs.launches import UNNAMED, Origin, names_of, note_start
from reverie.runs.run_folder import RunFolder, config_changes
from reverie.shell import command_line
from reverie.training import watchdog
from reverie.training.background import PATIENCE, Background, Inline, Worker
from reverie.training.collection import (
    Block,
    Collector,
    Episode,
    Policy,
    RandomPolicy,
    collect_block,
)
from reverie.training.disk import announcement
from reverie.training.display import Display
from reverie.training.dreams import save_dream
from reverie.training.evaluation import evaluate, evaluation_seed
from reverie.training.every import Every
from reverie.training.faults import FaultCount
from reverie.training.interrupts import Stopped, StopRequest
from reverie.training.learner import Learner
from reverie.training.memory import check_memory
from reverie.training.metrics import Metrics, MetricsWriter
from reverie.training.resumption import check_files, compare_files
from reverie.training.run_state import LoopState, RunState
from reverie.training.skips import Diverged

AGENT = ("world_model.", "behavior.")
"""Settings that the sizes of the networks depend on are among these."""
CONTEXT = 5
"""Steps that the model sees before it imagines, in videos."""


class Trainer:
    """Trains an agent in a run folder.

    Args:
        config: all settings.
        run: an open run folder; if it was resumed, its newest checkpoint is loaded.
        factory: creates the environment in place of `config.env.name`.
        origin: where the configuration came from; noted in the folder.
    """

    def __init__(
        self, config: Config, run: RunFolder, factory: EnvFactory | None = None, origin: Origin = UNNAMED
    ) -> None:
        self.config = config
        self.run_folder = run
        self._factory = factory
        self._origin = origin
        settings = config.training
        kernels.tune_malloc()
        self._waits = False
        self._short_at = 10
        """Finished episodes from which on it is said that all are too short to learn from."""
        self._faults = FaultCount(config.env.max_restarts_per_hour)
        self._started = time.monotonic()
        """Time at which the run would have started, had it never been interrupted."""
        self._policy_updates: int | None = None
        """Updates of the weights that the policy acts with."""
        self.checkpoints = Checkpoints(run.checkpoints, settings.keep_checkpoints)
        resumed = self.checkpoints.load() if run.resumed else None
        # An environment that cannot be put back starts afresh, and not with the episodes that it has already played.
        env_seed, sample_seed, prefill_seed = np.random.SeedSequence(
            (settings.seed, resumed[0] if resumed else 0)
        ).spawn(3)
        device = resolve_device(settings.device)
        self._overlaps = settings.async_collection == "on" or (
            settings.async_collection == "auto" and device.type == "cuda"
        )
        self._worker: Worker = Background(device) if self._overlaps else Inline()
        try:
            seed, supervised = int(env_seed.generate_state(1)[0]), config.env.max_restarts_per_hour > 0
            self.env = self._worker.start(lambda: make_env(config.env, seed, factory, supervised)).result()
        except BaseException:
            self._worker.close()
            raise
        try:
            self._set_up(run, resumed, sample_seed, prefill_seed)
        except BaseException:
            self._close_env()
            if hasattr(self, "replay"):
                self.replay.close()
            raise

    def _set_up(
        self,
        run: RunFolder,
        resumed: tuple[int, Snapshot] | None,
        sample_seed: np.random.SeedSequence,
        prefill_seed: np.random.SeedSequence,
    ) -> None:
        config, settings = self.config, self.config.training
        check_memory(config, self.env.spec, resolve_device(settings.device))
        self.agent = build_agent(config, self.env.spec)
        if resumed:
            check_files(run, resumed[1])
        else:
            run.begin(config)
        self.replay = ReplayBuffer(run.replay, self.env.spec.step, config.replay, self.env.num_envs)
        self.collector = Collector(self.env)
        self.policy = kernels.optimize(self.agent.policy.clone())
        """Acts while the agent learns."""
        sample_rng = np.random.default_rng(sample_seed)
        self._due = {
            "train": Every(settings.train_every),
            "evaluate": Every(settings.eval_every),
            "log": Every(settings.log_every, last=0),
            "video": Every(settings.video_every if self._has_images else 0, last=0),
            "checkpoint": Every(settings.checkpoint_every, last=0),
        }
        self.metrics = Metrics()
        self._parts = RunState(
            self.agent,
            self.replay,
            self.env,
            self._worker,
            self.collector,
            AgentPolicy(self.agent, policy=self.policy),
            self.metrics,
            self._due,
            sample_rng,
            prefill_rng=np.random.default_rng(prefill_seed),
            loop=LoopState(),
        )
        if resumed:
            self._restore(resumed[1])
            self._parts.notices = [*self._resumption(resumed), *self._parts.notices]
            run.begin(config)
        self._writer = MetricsWriter(run.path)
        self._resumed_at = (resumed[0], self.agent.updates, self.state.rows) if resumed else None
        self._display = Display(
            config.env.name,
            settings.steps * self.env.frames_per_step,
            preset=", ".join(name for name in names_of(run.path, self._origin) if name),
            parameters=parameter_counts(self.agent)["trained"],
            device=str(self.agent.device),
            frames=self.frames,
            elapsed=self.state.seconds,
        )
        self._watchdog = watchdog.Watchdog(self._display.log)
        self._episodes_end = watchdog.EpisodeWatch(self._display.log, "prefill", config.env.time_limit)
        self._learner = Learner(self._parts, self._watchdog, run.failures, self._display.log)

    @property
    def state(self) -> LoopState:
        """Where the loop stands."""
        return self._parts.loop

    @property
    def frames(self) -> int:
        """Environment frames so far: agent steps times the action repeat."""
        return self.state.steps * self.env.frames_per_step

    @property
    def _has_images(self) -> bool:
        return bool(self.agent.world_model.decoder.keys.images)

    def run(self) -> Dreamer:
        """Train until `config.training.steps`.

        Returns:
            The trained agent.

        Raises:
            Stopped: on Ctrl-C or SIGTERM, after a checkpoint.
            ReverieError: for what a user can mend; what was learned so far is saved.
        """
        self._started = time.monotonic() - self.state.seconds
        try:
            with (
                self._display,
                self._watchdog,
                self._writer.open(*(self._resumed_at or ())),
                StopRequest(self._announce_stop) as stop,
            ):
                self._parts.notices += compare_files(
                    self.run_folder, self.state, self._writer, self._resumed_at[0] if self._resumed_at else 0
                )
                note_start(self.run_folder.path, self._origin, self.state.steps, self.config)
                self._tell()
                try:
                    self._loop(stop)
                except (Exception, SystemExit) as error:  # rich exits where the reader of a pipe has gone
                    if not isinstance(error, Diverged):
                        with suppress(ReverieError):
                            self._checkpoint()
                    raise
        finally:
            self._close_env()
            self._learner.close()
            self.replay.close()
        return self.agent

    def _loop(self, stop: StopRequest) -> None:
        if not self._resumed_at:
            self._checkpoint()  # From here on there is something to resume.
        if newest := self.checkpoints.latest():
            self._display.log(announcement(self.config, self.env.spec, self.run_folder.path, newest))
        self._catch_up(stop)
        random_policy = RandomPolicy(self.env.spec.action, self._parts.prefill_rng)
        while self._goes_on(stop):
            if not self._prefilled():
                self._prefill(random_policy)
                self._log_and_save_if_due()
                continue
            if not self.state.pretrained:
                self._pretrain(stop)
            if stop.requested or not self._evaluate_if_due(stop):
                break
            if self._is_due("video"):
                self._video()
            self._log_and_save_if_due()
            if self._overlaps:
                self._train_overlapped()
            else:
                self._train_alternating()
        if not stop.requested:
            self._finish(stop)
        if stop.requested:
            folder = self._checkpoint()
            words = f"Stopped at step {self.state.steps:,} and saved {folder}; continue with {self._words_to_resume()}."
            raise Stopped(words, stop.signal)

    def _goes_on(self, stop: StopRequest) -> bool:
        return self.state.steps < self.config.training.steps and not stop.requested

    def _words_to_resume(self) -> str:
        if self._factory is not None:
            return "resume=True"
        name = self.config.env.name
        return f"`{command_line('train', name, '--logdir', self.run_folder.path, '--resume', env=name)}`"

    def _prefilled(self) -> bool:
        """Enough random steps, and at least one episode if whole episodes are sampled (SPEC 41)."""
        if self.state.steps < self.config.training.prefill:
            return False
        if self.state.episodes > 0 or self.config.replay.sampling == "steps":
            return True
        if not self._waits:
            self._waits = True
            self._display.log(
                f"No episode has ended in {self.state.steps:,} steps, and learning waits for the first one; if none "
                "will, set --env.time-limit, or --replay.sampling steps."
            )
        return False

    def _prefill(self, policy: Policy) -> None:
        """Take one random step in each environment."""
        num_episodes = self.state.episodes
        self._receive(self._collect(policy, 1).result(), "prefill")
        self._episodes_end.step(1, self.state.episodes > num_episodes)
        if self.state.episodes >= self._short_at and (problem := self.replay.too_short(self.env.frames_per_step)):
            self._short_at = 10 * self.state.episodes
            self._display.log(f"Learning cannot begin yet: {problem}")

    def _is_due(self, name: str) -> int:
        return self._due[name](self.state.steps)

    def _train_alternating(self) -> None:
        """One step in each environment, then the updates that are due."""
        self._take_weights()
        self._receive(self._collect(self._parts.policy, 1).result(), "training")
        self._learn(self._is_due("train"))

    def _train_overlapped(self) -> None:
        """The updates that are due, and meanwhile the steps until the next ones are.

        The steps are chosen by the weights before these updates, and reach the replay after them: what is computed does
        not depend on who is faster. When this returns, nothing is under way.
        """
        due = self._is_due("train")
        self._take_weights()
        steps_left = self.config.training.steps - self.state.steps
        count = max(1, math.ceil(min(self._due["train"].until(self.state.steps), steps_left) / self.env.num_envs))
        collecting = self._collect(self._parts.policy, count)
        try:
            self._learn(due)
        except (Exception, SystemExit):
            # The run is saved next, with nothing under way. Two errors at a time would be one too many to tell.
            with suppress(Exception):
                self._receive(collecting.result(), "training")
            raise
        self._watchdog.wait_for(watchdog.ENVIRONMENTS)
        with self.metrics.timer("wait"):
            block = collecting.result()
        self._receive(block, "training")

    def _take_weights(self) -> None:
        """Copy the agent's weights into the policy that acts."""
        if self._policy_updates != self.agent.updates:
            self._policy_updates = self.agent.updates
            self.policy.load_weights(self.agent.policy)

    def _collect(self, policy: Policy, count: int) -> "Future[Block]":
        """Begin to take `count` steps in each environment. A block is never broken off, so that it can be repeated."""
        self._watchdog.wait_for(watchdog.ENVIRONMENTS)
        return self._worker.start(lambda: collect_block(self.collector, policy, count))

    def _receive(self, block: Block, phase: str) -> None:
        """Put collected steps into the replay and into all counts.

        Raises:
            Exception: what ended the block early.
        """
        self.metrics.spend("collect", block.seconds)
        episodes = []
        for collected in block.collected:
            with self.metrics.timer("replay"):
                for step, rows in collected.steps:
                    self.replay.add(step, rows)
                self.replay.truncate_episodes(collected.broken_off)
            self.state.steps += collected.num_steps
            self.agent.agent_steps = self.state.steps
            self.metrics.count("frames", collected.num_steps * self.env.frames_per_step)
            for _, episode in collected.episodes:
                self.state.episodes += 1
                self.metrics.add({"train/return": episode.return_, "train/length": episode.length})
                episodes.append(episode)
        # Shown when everything is stored: a terminal that has gone may end the run here.
        for episode in episodes:
            self._display.episode(episode.return_, episode.length)
        if block.collected:
            self._display.update(step=self.state.steps, frames=self.frames, phase=phase)
        if any(collected.num_steps for collected in block.collected):
            self._faults.step_succeeded()
        for fault in block.faults:
            self._forgive(fault, "It was made anew; its episode counts as truncated.")
        if block.error is not None:
            raise block.error

    def _forgive(self, fault: EnvError, consequence: str) -> None:
        """Count and tell a failure of an environment that is made anew; raises EnvError if there were too many."""
        self.state.faults += 1
        self._display.log(self._faults.forgive(fault, consequence))

    def _learn(self, times: int) -> None:
        """`times` times the updates of `training.train_steps`."""
        self._learner.learn(times * self.config.training.train_steps)

    def _pretrain(self, stop: StopRequest) -> None:
        """Updates before the agent first acts: those of the world model alone, then those of the whole agent."""
        self.replay.check_sampleable(self.env.frames_per_step)
        if kernels.compiles(self.agent):
            self._display.log("Compiling parts of the model: the first updates take about a minute longer, once.")
        settings, state = self.config.training, self.state
        for _ in self._while_steps_stand_still(stop, lambda: state.pretraining, self._pretraining):
            self._learner.learn(1, world_model_alone=state.pretraining < settings.pretrain_world_model)
            state.pretraining += 1
        state.pretrained = state.pretraining >= self._pretraining

    def _catch_up(self, stop: StopRequest) -> None:
        """Make the updates that were due for steps which the replay held beyond the checkpoint."""
        for _ in self._while_steps_stand_still(stop, lambda: -self.state.behind, 0):
            self._learn(1)
            self.state.behind -= 1

    def _while_steps_stand_still(self, stop: StopRequest, count: Callable[[], int], until: int) -> Iterator[None]:
        """Once for each update, until there were enough; rows and checkpoints come after as many as they do later.

        The row of the last update is left to the loop, so that an evaluation at this step shares it.
        """
        settings = self.config.training
        updates_per_step = settings.train_steps / settings.train_every
        per_row, per_checkpoint = (
            max(1, round(steps * updates_per_step)) for steps in (settings.log_every, settings.checkpoint_every)
        )
        while count() < until and not stop.requested:
            yield
            self._display.update(**self._standing())
            if count() >= until:
                self.state.row_due = True
            elif count() % per_row == 0:
                self._log(between_steps=True)
            if count() % per_checkpoint == 0:
                self._checkpoint()

    def _evaluate_if_due(self, stop: StopRequest) -> bool:
        """Whether the loop may go on. An evaluation that is broken off is still due when the run is resumed."""
        every = self._due["evaluate"]
        last = every.last
        if self._is_due("evaluate") and not self._evaluate(stop):
            every.last = last
        return self._goes_on(stop)

    def _log_and_save_if_due(self) -> None:
        """Write the row of metrics and the checkpoint that are due at this step; `_finish` writes the last ones."""
        if self.state.steps < self.config.training.steps and self._is_row_due():
            self._log()
        if self._is_due("checkpoint"):
            self._checkpoint()

    def _is_row_due(self) -> bool:
        return bool(self._is_due("log")) or self.state.row_due

    def _evaluate(self, stop: StopRequest, last: bool = False) -> bool:
        """Play episodes, and write their returns into a row of this step; False where that was interrupted.

        The row also has the averages of training where these are due, and at the end of the run (`last`).
        """
        self._display.update(step=self.state.steps, frames=self.frames, phase="evaluating")
        with self.metrics.timer("evaluate"):
            played = self._play(stop)
        if stop.requested:
            return False
        self.state.evaluations += 1
        self.state.evaluated_at = self.state.steps
        score = float(np.mean([episode.return_ for episode in played]))
        self._log(played, averages=self._is_row_due() or last)
        self._display.evaluation(score)
        if self.state.best_score is None or score > self.state.best_score:
            self.state.best_score = score
            self._checkpoint(score)
        return True

    def _play(self, stop: StopRequest) -> list[Episode]:
        """Episodes for the next score; all of them anew where an environment has failed."""
        settings = self.config.training
        for attempt in itertools.count():
            seed = evaluation_seed(settings.seed, self.state.evaluations + 1, attempt)
            try:
                return evaluate(
                    self.agent,
                    self.config.env,
                    settings.eval_episodes,
                    seed,
                    self._factory,
                    stop,
                    self._before_evaluation_step,
                    self._display.log,
                )
            except EnvError as error:
                if not self.config.env.max_restarts_per_hour:
                    raise
                self._forgive(error, "The evaluation begins anew.")
        raise AssertionError("attempts never end")

    def _before_evaluation_step(self) -> None:
        self._watchdog.wait_for(watchdog.ENVIRONMENTS)
        self._display.update(step=self.state.steps, frames=self.frames, phase="evaluating")

    def _video(self) -> None:
        self._watchdog.wait_for(watchdog.VIDEO)
        with self.metrics.timer("video"):
            rng = np.random.default_rng(self.state.steps)
            generator = torch.Generator(self.agent.device).manual_seed(self.state.steps)
            stem = self.run_folder.videos / f"dream-{self.state.steps:09d}"
            files = save_dream(self.agent, self.replay.sample(rng), CONTEXT, stem, generator)
            contents = [file.read_bytes() for file in files]
            self._writer.add_gif("model/dream", contents[0], self.state.steps)
            for file, content in zip(files, contents, strict=True):
                self.state.videos[file.name] = hashlib.sha256(content).hexdigest()

    def _log(self, evaluation: Sequence[Episode] = (), averages: bool = True, between_steps: bool = False) -> None:
        """Write a row: averages of training since the last one that had them, and an evaluation of this step."""
        self._learner.settle()
        self._note_time()
        scalars: dict[str, float] = {}
        if averages:
            scalars = self.metrics.mean()
            counts = {"env/faults": self.state.faults, "train/nonfinite_updates": self.state.skipped}
            scalars |= {name: float(count) for name, count in counts.items() if count}
        episodes: dict[str, list[float]] = {}
        if evaluation:
            episodes = {"return": [e.return_ for e in evaluation], "length": [e.length for e in evaluation]}
        counters = (self.state.steps, self.frames, self.state.seconds, self.agent.updates)
        self._writer.write(*counters, scalars, episodes, between_steps=between_steps)
        self.state.rows, self.state.rows_sha256 = self._writer.rows, self._writer.sha256
        if averages:
            self.state.row_due = False
            self.metrics.reset()
            self._display.update(**self._standing(), metrics=scalars)
        broken = [name for name, value in scalars.items() if not math.isfinite(value)]
        if broken:
            raise Diverged(
                f"{broken[0]} is not finite at step {self.state.steps}; lower the learning rates, or go back to an "
                f"earlier checkpoint in {self.run_folder.checkpoints}."
            )

    @property
    def _pretraining(self) -> int:
        """Updates of the whole pretraining."""
        return self.config.training.pretrain_world_model + self.config.training.pretrain

    def _standing(self) -> dict[str, Any]:
        """Where the run stands, for the display."""
        state, phase, detail = self.state, "training", ""
        if not state.pretrained:
            phase = "pretraining" if state.pretraining else "prefill"
            detail = f"{state.pretraining:,}/{self._pretraining:,} updates" if state.pretraining else ""
        return {"step": state.steps, "frames": self.frames, "phase": phase, "detail": detail}

    def _finish(self, stop: StopRequest) -> None:
        self.replay.check_sampleable(self.env.frames_per_step)
        if self.config.training.eval_every and self.state.evaluated_at < self.state.steps:
            self._evaluate(stop, last=True)
        if stop.requested:
            return
        if self._has_images and self.config.training.video_every:
            self._video()
        if not self.config.training.eval_every:
            self._log()
        self.state.finished_at = self.state.steps
        self._checkpoint()
        self._display.update(step=self.state.steps, frames=self.frames, phase="finished")

    def _close_env(self) -> None:
        """Close the environments where they were made; one that hangs is left to itself."""
        with suppress(TimeoutError):
            self._worker.start(self.env.close).result(PATIENCE)
        self._worker.close()

    def _announce_stop(self) -> None:
        self._display.log("Stopping after this step, with a checkpoint; press Ctrl-C again to stop at once.")

    def _note_time(self) -> None:
        self.state.seconds = time.monotonic() - self._started

    def _checkpoint(self, score: float | None = None) -> Any:
        self._note_time()
        self._watchdog.wait_for(watchdog.CHECKPOINT)
        self._learner.settle()
        with self.metrics.timer("checkpoint"):
            if not all(bool(weight.isfinite().all()) for weight in self.agent.parameters()):
                raise Diverged(
                    f"The weights are not finite at step {self.state.steps}, and were not saved; lower the learning "
                    "rates, and go on with --resume from the checkpoint before."
                )
            folder = self.checkpoints.save(self.state.steps, self._parts.snapshot(), score)
        self._tell()
        return folder

    def _tell(self) -> None:
        """Show what the parts of the run have to say."""
        while self._parts.notices:
            self._display.log(self._parts.notices.pop(0))

    def _resumption(self, resumed: tuple[int, Snapshot]) -> list[str]:
        """Return what a resumed run continues from, and each setting that is changed."""
        done = f"step {resumed[0]:,} of {self.config.training.steps:,}, {self.agent.updates:,} updates"
        newest = self.checkpoints.latest()
        changes = config_changes(self.run_folder.saved_config(), self.config)
        return [
            f"Resuming from {newest.name if newest else 'a checkpoint'}: {done}.",
            *(f"  {path}: {as_text(new)} (was {as_text(old)})" for path, (old, new) in changes.items()),
        ]

    def _misfit(self) -> str:
        """Which settings are others than those of the run that is resumed; empty if none that sizes depend on."""
        changes = config_changes(self.run_folder.saved_config(), self.config)
        sizes = [f"{path} ({old} there)" for path, (old, _) in changes.items() if path.startswith(AGENT)]
        if not sizes:
            return ""
        more = f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""
        return (
            f"The run in {self.run_folder.path} has networks of other sizes: leave {', '.join(sizes[:3])}{more} as in "
            "its config.toml, or choose another --logdir."
        )

    def _restore(self, snapshot: Snapshot) -> None:
        try:
            with understood("The checkpoint"):
                self._parts.restore(snapshot)
        except CheckpointError as error:
            raise CheckpointError(self._misfit() or str(error)) from error

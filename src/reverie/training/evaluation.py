"""Evaluation: whole episodes in fresh environments, with the mode of the actor (SPEC 38, 43)."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from typing_extensions import override

from reverie.acting import AgentPolicy
from reverie.collectors.collector import Episode
from reverie.collectors.sync_collector import SyncCollector
from reverie.config import EnvConfig
from reverie.dreamer import Dreamer
from reverie.dreamer.recurrent_policy import Mode
from reverie.envs import EnvFactory, InstanceFactory, make_env
from reverie.errors import EnvError
from reverie.specs import EnvSpec
from reverie.training.callbacks import Callback, EvaluationResult
from reverie.training.counters import Counters
from reverie.training.every import Every
from reverie.training.failure_budget import FailureBudget
from reverie.training.metrics import Metrics
from reverie.training.stop_signal import StopSignal
from reverie.training.watchdog import EpisodeWatch

MAX_ENVS = 8


def evaluate(
    agent: Dreamer,
    config: EnvConfig,
    episodes: int,
    seed: int,
    factory: EnvFactory | None = None,
    stop: StopSignal | None = None,
    on_step: Callable[[], None] = lambda: None,
    log: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    mode: Mode = "mode",
) -> list[Episode]:
    """Play episodes to their end; latent states are sampled.

    Environments and samples are seeded by `seed` alone, so that an evaluation depends on nothing that was collected
    before, and does not change what follows. Each environment plays a fixed number of episodes: taking those that end
    first would prefer short ones.

    Args:
        agent: chooses the actions, by their mode or by samples, see `mode`.
        config: settings of the environment; the number of environments is chosen here.
        episodes: number of episodes.
        seed: seed of environments and samples.
        factory: creates the environment in place of `config.name`.
        stop: ends the evaluation early; fewer episodes are returned then.
        on_step: called before each step.
        log: prints a line where no episode ends for a while.
        mode: `mode` or `sample`.
    """
    count = 1 if isinstance(factory, InstanceFactory) else min(episodes, MAX_ENVS)
    policy = AgentPolicy(agent, mode, torch.Generator(agent.device).manual_seed(seed))
    parallel = config.parallel and (config.num_envs > 1 or config.step_timeout > 0)
    with make_env(replace(config, num_envs=count, parallel=parallel), seed, factory) as env:
        check_spec(agent, env.spec, config.name)
        quota = [len(part) for part in np.array_split(np.arange(episodes), env.num_envs)]
        finished: list[list[Episode]] = [[] for _ in quota]
        collector = SyncCollector(env)
        watch = EpisodeWatch(log, config.time_limit)
        while [len(done) for done in finished] != quota and not (stop is not None and stop.requested):
            on_step()
            (transition,) = collector.step(policy)
            ended = [episode for episode in transition.episodes if len(finished[episode.env]) < quota[episode.env]]
            watch.step(has_ended=bool(ended))
            for episode in ended:
                finished[episode.env].append(episode)
    return [episode for done in finished for episode in done]


def check_spec(agent: Dreamer, spec: EnvSpec, name: str) -> None:
    """Raise an `EnvError` if an environment is not of the agent's kind."""
    if spec != agent.spec:
        trained, found = (f"{each.action} and observations {dict(each.observations)}" for each in (agent.spec, spec))
        raise EnvError(f"The agent was trained with {trained}, but {name} has {found}.")


def evaluation_seed(seed: int, number: int, attempt: int = 0) -> int:
    """Return the seed of the number-th evaluation of a run, independent of those of its training environments."""
    entropy = (seed, 0xE7A1, number, attempt) if attempt else (seed, 0xE7A1, number)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


@dataclass(eq=False)
class Evaluation(Callback):
    """Evaluates the agent every `training.eval_every` steps, and at the end of the run."""

    every: Every
    factory: EnvFactory | None
    """Creates the environment in place of `env.name`."""
    metrics: Metrics
    budget: FailureBudget
    stop: StopSignal
    """Interrupts an evaluation, which is then due in the resumed run."""
    show: Callable[[], None]
    """Called before each step, for the display."""
    on_result: Callable[[EvaluationResult], None]

    @override
    def on_step(self, counters: Counters, transitions: object) -> None:
        """Evaluate if it is due; the last step is left to the end of the run."""
        is_last = counters.steps >= self.run.config.training.steps
        if counters.is_pretrained and not is_last and not self.stop.requested:
            last = self.every.last
            if self.every(counters.steps):
                self._evaluate()
                if counters.evaluated_at < counters.steps:
                    self.every.last = last  # it was interrupted

    @override
    def on_end(self) -> None:
        """Evaluate, unless it was done at this step."""
        if self.every.period and self.run.counters.evaluated_at < self.run.counters.steps:
            self._evaluate(is_final=True)

    def _evaluate(self, is_final: bool = False) -> None:
        counters = self.run.counters
        self.show()
        with self.metrics.timer("evaluate"):
            episodes = self._play()
        if not self.stop.requested:
            counters.evaluations += 1
            counters.evaluated_at = counters.steps
            self.on_result(EvaluationResult(counters.steps, tuple(episodes), is_final))

    def _play(self) -> list[Episode]:
        run, config, settings = self.run, self.run.config.env, self.run.config.training
        attempt = 0
        while True:
            seed = evaluation_seed(settings.seed, run.counters.evaluations + 1, attempt)
            try:
                return evaluate(
                    run.agent, config, settings.eval_episodes, seed, self.factory, self.stop, self._before_step, run.log
                )
            except EnvError as error:
                if not config.max_restarts_per_hour:
                    raise
                attempt += 1
                run.counters.restarts += 1
                run.log(self.budget.record(error, "The evaluation starts over."))

    def _before_step(self) -> None:
        self.metrics.show_progress()
        self.show()

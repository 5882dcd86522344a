"""Everything of a run that changes while it trains: what a checkpoint holds, and what a resumed run goes on from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie import agents
from reverie.acting import AgentPolicy
from reverie.config import flatten
from reverie.dreamer import ActState, Dreamer, State
from reverie.envs import BatchedEnv, EnvState
from reverie.errors import CheckpointError, EnvError
from reverie.replay import TRANSACTION_STEPS, ReplayBuffer
from reverie.runs.atomic_io import Json
from reverie.runs.checkpoints import Snapshot, numpy_state, restore_numpy, state_from_json, state_to_json
from reverie.runs.launches import conditions, otherwise
from reverie.specs import Array, Step
from reverie.training.background import Worker
from reverie.training.collection import Collector
from reverie.training.every import Every
from reverie.training.metrics import Metrics

ENVIRONMENTS, COLLECTOR, POLICY = "environments", "collector", "policy"
"""Files of a checkpoint, beside those of the agent."""
_MISSING = (
    "The replay has forgotten steps that it held at this checkpoint: the run goes on without them, and not bit for bit "
    "as it did then."
)
_SAME_GAME = ("num_envs", "parallel", "step_timeout", "max_restarts_per_hour")
"""Settings of environments that do not change what happens in each of them."""


@dataclass
class LoopState:
    """Where the loop stands."""

    steps: int = 0
    """Agent steps in all environments together; resets are not counted (SPEC 40)."""
    episodes: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    """Wall time of the run, over all its parts."""
    best_score: float | None = None
    pretraining: int = 0
    """Updates of the pretraining so far."""
    pretrained: bool = False
    behind: int = 0
    """Times that updates are due for steps that were stored, but not yet learned from, when the run was killed."""
    finished_at: int = 0
    """Steps at which the run was last finished: with its last evaluation, video and row of metrics."""
    evaluated_at: int = 0
    """Steps of the latest evaluation."""
    row_due: bool = False
    """True while updates without steps, as in pretraining, still wait for their last row of metrics."""
    rows: int = 0
    """Of metrics, so far."""
    rows_sha256: str = ""
    """Of these rows as they stand in the file."""
    videos: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file of the videos so far, by name."""
    faults: int = 0
    """Failures of environments that were made anew."""
    skipped: int = 0
    """Updates in which something did not learn, because a loss or its gradients were not finite."""
    skipped_in_a_row: int = 0
    """Of these, the latest ones without another between them."""
    last_due: dict[str, int | None] = field(default_factory=dict)
    """State of each `Every`, by name."""


@dataclass
class RunState:
    """The parts of a run. A snapshot is taken between two steps, with nothing under way.

    A run that goes on from a snapshot is, bit for bit, the one that was never stopped, provided that device, number of
    threads and environments are the same, and that every environment can be put back (see `reverie.envs.state`).
    """

    agent: Dreamer
    replay: ReplayBuffer
    env: BatchedEnv
    worker: Worker
    """Where the environments live."""
    collector: Collector
    policy: AgentPolicy
    metrics: Metrics
    due: dict[str, Every]
    sample_rng: np.random.Generator
    prefill_rng: np.random.Generator
    loop: LoopState
    notices: list[str] = field(default_factory=list)
    """What the user should be told."""
    _speechless: bool = False
    """Whether an environment could not say where it stands."""

    def snapshot(self) -> Snapshot:
        """All of it; the replay is committed."""
        agent = agents.snapshot(self.agent)
        self.loop.last_due = {name: every.last for name, every in self.due.items()}
        envs = self._environments()
        # Where environments cannot be restored, what they did is not done again: a kill must not take any of it.
        self.replay.transaction_steps = TRANSACTION_STEPS if envs else 1
        packed: dict[str, Tensor] = {}
        loop = {
            "state": asdict(self.loop),
            "sample_rng": numpy_state(self.sample_rng),
            "prefill_rng": numpy_state(self.prefill_rng),
            "metrics": self.metrics.state(),
            "machine": conditions(self.agent.config),
            ENVIRONMENTS: [_pack(state, f"{number}/", packed) for number, state in enumerate(envs)],
            "replay": self.replay.commit(),
        }
        collector = {name: torch.from_numpy(rows.copy()) for name, rows in self.collector.state().items()}
        tensors = {ENVIRONMENTS: packed, COLLECTOR: collector, POLICY: _memory(self.policy.state)}
        return Snapshot({**agent.tensors, **tensors}, {**agent.state, "loop": loop})

    def restore(self, snapshot: Snapshot) -> None:
        """Become what a snapshot describes; what is otherwise than there is noted in `notices`.

        Raises:
            CheckpointError: if the agent has other sizes.
            ReplayError: if the replay is another one, or damaged.
        """
        agents.restore(self.agent, snapshot)
        loop = snapshot.state["loop"]
        self.loop = LoopState(**loop["state"])
        for name, every in self.due.items():
            every.last = self.loop.last_due[name]
        restore_numpy(self.sample_rng, loop["sample_rng"])
        restore_numpy(self.prefill_rng, loop["prefill_rng"])
        self.metrics.restore(loop["metrics"], self.agent.device)
        self.replay.check(loop["replay"])
        if self.loop.steps >= self.agent.config.training.prefill and (
            self.loop.episodes > 0 or self.agent.config.replay.sampling == "steps"
        ):
            self.replay.check_sampleable()  # with the settings of now
        if not self.replay.rewind(loop["replay"]):
            self.notices.append(_MISSING)
        if said := otherwise(loop["machine"], conditions(self.agent.config)):
            self.notices.append(said)
        if not loop["state"]["steps"]:
            return  # No environment has been reset yet.
        problems = self._restore_environments(snapshot)
        lost = [number for number, problem in enumerate(problems) if problem]
        self.notices += _told(problems)
        if lost:
            self._begin_anew(None if len(lost) == len(problems) else lost)

    def _begin_anew(self, streams: list[int] | None) -> None:
        """Where environments begin new episodes, what they did after the checkpoint is not done again, and is kept."""
        taken = self.replay.recover_uncommitted(streams)
        self.replay.truncate_episodes(streams)
        if not taken.steps:
            return
        loop = self.loop
        loop.steps += taken.steps
        loop.episodes += taken.episodes
        self.agent.agent_steps = loop.steps
        if loop.pretrained:
            loop.behind += self.due["train"](loop.steps)
        due = f", once it has made up for {loop.behind:,} times that updates were due" if loop.behind else ""
        self.notices.append(
            f"The replay holds {taken.steps:,} steps more than at the checkpoint. They are kept and counted: the run "
            f"goes on at step {loop.steps:,}{due}."
        )

    def _environments(self) -> list[EnvState]:
        """Where the environments stand; empty if one cannot say it, or has failed before."""
        if not self.env.goes_on:
            return []
        try:
            states = self.worker.start(self.env.states).result()
            # After an error between a step and its storing, an environment may be ahead of the replay.
            stored = [self.replay.open_steps(number) for number in range(len(states))]
            return states if stored == [state.running * (state.step + 1) for state in states] else []
        except EnvError as error:
            if not self._speechless:
                self._speechless = True
                self.notices.append(f"{error} Checkpoints do without; a resumed run begins new episodes.")
            return []

    def _restore_environments(self, snapshot: Snapshot) -> list[str]:
        """For each environment why it could not be put back; empty if it could."""
        state, tensors = snapshot.state, snapshot.tensors
        saved, latest = state["loop"][ENVIRONMENTS], tensors[COLLECTOR]

        def none(reason: str) -> list[str]:
            return [reason] * self.env.num_envs

        if not saved or not latest:
            return none("the checkpoint does not say where it stood")
        if len(saved) != self.env.num_envs:
            return none(f"env.num_envs was {len(saved)}")
        before, now = (_what_matters(env) for env in (state["config"]["env"], flatten(self.agent.config.env)))
        changed = [name for name in now if before.get(name) != now[name]]
        if changed:
            return none(f"env.{changed[0]} was {before.get(changed[0])}")
        envs = [_unpack(entry, f"{number}/", tensors[ENVIRONMENTS]) for number, entry in enumerate(saved)]
        rows = {name: tensor.numpy() for name, tensor in latest.items()}
        episodes: list[Callable[[], Iterator[Step]]] = [
            partial(self.replay.latest_episode, number, env.step + 1) for number, env in enumerate(envs)
        ]
        problems = self.worker.start(lambda: self.collector.put_back(rows, envs, episodes)).result()
        self.policy.state = _remembered(tensors[POLICY], self.agent.device)
        return problems


def _what_matters(env: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that decide what happens in each environment, as JSON has them."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in env.items()}
    return {name: value for name, value in plain.items() if name not in _SAME_GAME}


def _told(problems: Sequence[str]) -> list[str]:
    """The reasons, each once, with the number of environments."""
    told = []
    for reason in dict.fromkeys(problem for problem in problems if problem):
        count = problems.count(reason)
        which = "The environment" if len(problems) == 1 else f"{count} of {len(problems)} environments"
        told.append(
            f"{which} could not be put back where the run was stopped ({reason}): what was running ends here, "
            "truncated, and a new episode begins. Nothing learned is lost, but from here on this is not bit for bit "
            "the run that would have been without the stop."
        )
    return told


def _pack(state: EnvState, prefix: str, tensors: dict[str, Tensor]) -> Json:
    """As JSON, with the bytes of its own arrays among the tensors."""
    own = None
    if state.own is not None:
        own = {}
        for name, array in state.own.items():
            if array.dtype.hasobject:
                raise CheckpointError(f"An environment's save_state returned '{name}' with Python objects in it.")
            own[name] = {"dtype": array.dtype.str, "shape": list(array.shape)}
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            tensors[prefix + name] = torch.from_numpy(flat.copy())
    return {**asdict(replace(state, own=None)), "random": state_to_json(state.random), "own": own}


def _unpack(entry: Json, prefix: str, tensors: Mapping[str, Tensor]) -> EnvState:
    """Inverse of `_pack`."""
    own: dict[str, Array] | None = None
    if entry["own"] is not None:
        own = {
            name: tensors[prefix + name].numpy().view(np.dtype(kind["dtype"])).reshape(kind["shape"])
            for name, kind in entry["own"].items()
        }
    return EnvState(**{**entry, "random": state_from_json(entry["random"]), "own": own})


def _memory(state: ActState | None) -> dict[str, Tensor]:
    return {} if state is None else {**state.latent._asdict(), "action": state.action}


def _remembered(tensors: Mapping[str, Tensor], device: torch.device) -> ActState | None:
    if not tensors:
        return None
    moved = {name: tensor.to(device) for name, tensor in tensors.items()}
    return ActState(State(**{name: moved[name] for name in State._fields}), moved["action"])

"""Learning from recorded episodes: into a run's replay, and losses on those that are held out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from reverie.acting import to_tensors
from reverie.config import Config
from reverie.data import Episode, Recording, open_recording
from reverie.dreamer import Dreamer
from reverie.errors import DataError, ReplayError
from reverie.replay import REPLAY, ReplayBuffer
from reverie.runs.atomic_io import remove
from reverie.runs.layout import VALIDATION_FILES
from reverie.specs import Array, EnvSpec, Step
from reverie.training.callbacks import Callback
from reverie.training.counters import Counters
from reverie.training.every import Every
from reverie.training.metrics import Metrics

Relabel = Callable[[Episode], Array]
"""Returns other rewards [T+1] of an episode, of which the first one is 0."""
BATCHES = 4
"""Batches of held-out sequences in a validation."""


class Data(NamedTuple):
    """Recorded episodes that a run begins with."""

    path: Path
    relabel: Relabel | None = None


class Imported(NamedTuple):
    """Recorded episodes that were read, in replays which the run does not have yet."""

    folder: Path
    """Folder of the replay and of the held-out episodes."""
    num_episodes: int
    num_steps: int
    """Those that the replay has kept."""
    num_held_out: int
    num_evicted: int
    """Rows that exceeded the capacity of the replay."""
    notes: list[str]

    def messages(self) -> list[str]:
        """Return sentences for the user."""
        held_out = f" {self.num_held_out:,} more are held out." if self.num_held_out else ""
        found = [f"{self.num_episodes:,} recorded episodes of {self.num_steps:,} steps are in the replay.{held_out}"]
        if self.num_evicted:
            found = [
                f"The replay keeps {self.num_steps:,} steps of {self.num_episodes:,} recorded episodes, the last ones. "
                f"Raise replay.capacity to keep all.{held_out}"
            ]
        return found + self.notes


def open_data(data: Data, spec: EnvSpec | None) -> Recording:
    """Open recorded episodes; raise DataError if an environment has other observations or actions than they."""
    recording = open_recording(data.path)
    if spec is not None and (spec.step != recording.spec.step or spec.action != recording.spec.action):
        stored, found = (f"{dict(each.observations)} and {each.action}" for each in (recording.spec, spec))
        raise DataError(
            f"{data.path} holds {stored}, but the environment has {found}. Nothing was trained. Set the environment up "
            "as it was recorded."
        )
    return recording


def stage(recording: Recording, relabel: Relabel | None, config: Config, folder: Path) -> Imported:
    """Read all episodes into replays in a temporary folder, so that bad ones leave no trace in a run.

    An offline run holds `training.validation_share` of them out, spread evenly: of ten, with a share of 0.1, the tenth.
    """
    share = config.training.validation_share if config.training.collect == "none" else 0.0
    remove(folder)
    folder.mkdir()
    num_episodes = num_steps = num_held_out = 0
    unbounded = replace(config.replay, capacity=1 << 40)
    try:
        with (
            ReplayBuffer(folder / REPLAY, recording.spec.step, config.replay) as replay,
            ReplayBuffer(folder / VALIDATION_FILES[0], recording.spec.step, unbounded) as held_out,
        ):
            for number, episode in enumerate(_relabelled(recording, relabel), 1):
                is_held_out = int(number * share) > int((number - 1) * share)
                target = held_out if is_held_out else replay
                for t in range(len(episode["action"])):
                    target.add({key: rows[t : t + 1] for key, rows in episode.items()}, envs=range(1))
                if is_held_out:
                    num_held_out += 1
                else:
                    num_episodes, num_steps = num_episodes + 1, num_steps + len(episode["action"]) - 1
            num_evicted = num_steps + num_episodes - replay.num_steps
        if not num_episodes:
            why = f"training.validation_share={share:g} holds all out" if num_held_out else "no episode is finished"
            raise DataError(f"{recording.path} has nothing to learn from: {why}. Nothing was trained. Name other data.")
        notes = [*recording.notes]
        if share and not num_held_out:
            notes.append("No episode is held out: there are too few for training.validation_share.")
        if not num_held_out:
            remove(folder / VALIDATION_FILES[0])
        return Imported(folder, num_episodes, num_steps - num_evicted, num_held_out, num_evicted, notes)
    except BaseException:
        remove(folder)
        raise


def move_into_place(imported: Imported, run: Path) -> None:
    """Move the replays to where a run has them."""
    for path in sorted(imported.folder.iterdir()):
        path.rename(run / path.name)
    imported.folder.rmdir()


def _relabelled(episodes: Iterable[Episode], relabel: Relabel | None) -> Iterator[Episode]:
    for episode in episodes:
        if relabel is None:
            yield episode
            continue
        reward = np.asarray(relabel(episode), np.float32)
        if reward.shape != episode["reward"].shape or not np.isfinite(reward).all() or reward[0]:
            raise DataError(
                f"relabel returned rewards of shape {reward.shape}, or not finite ones, or a first one that is not 0, "
                f"for an episode of {len(episode['reward'])} rows. Nothing was trained. Return one number for each."
            )
        yield {**episode, "reward": reward}


@torch.no_grad()
def validate(agent: Dreamer, batch: Step, generator: torch.Generator) -> dict[str, Tensor]:
    """Return losses of the world model on sequences [T, B, …] that it does not learn from.

    `validation/open_loop_error` is the mean squared error of its predictions, over all observations, where the states
    of the first half of each sequence are inferred and those of the second half imagined along the recorded actions.
    """
    model, steps = agent.world_model, to_tensors(batch, agent.device)
    context = len(steps["is_first"]) // 2
    noise = model.rssm.latents.draw_noise(tuple(steps["is_first"].shape), generator)
    with agent.autocast():
        found = model.loss(steps, None, noise, model.scheduled_values(agent.agent_steps))
        start = found.posterior.map(lambda part: part[context - 1])
        prior = model.rssm.imagine(steps["action"][context:].float(), start, noise[context:])
        predicted = {**model.decoder.images(prior.feat), **model.decoder.vectors(prior.feat)}
    targets = {key: value[context:] for key, value in model.preprocess(steps).items()}
    is_within = steps["is_first"][context:].int().cumsum(0) == 0  # the actions of the next episode do not lead on
    errors = [(mean.float() - targets[key]).square().flatten(2).mean(-1)[is_within] for key, mean in predicted.items()]
    losses = {f"validation/{name.removeprefix('model/')}": value for name, value in found.metrics.items()}
    return losses | {"validation/open_loop_error": torch.cat(errors).mean()}


@dataclass(eq=False)
class Validation(Callback):
    """Logs losses on held-out episodes every `training.eval_every` steps, and at the end of the run.

    They depend on the weights alone: sequences and noise are the same each time.
    """

    every: Every
    replay: ReplayBuffer
    """The held-out episodes."""
    metrics: Metrics

    @override
    def on_step(self, counters: Counters, transitions: object) -> None:
        is_last = counters.steps >= self.run.config.training.steps
        if counters.is_pretrained and not is_last and self.every(counters.steps):
            self._validate()

    @override
    def on_end(self) -> None:
        if self.every.period:
            self._validate()

    def _validate(self) -> None:
        rng, agent = np.random.default_rng(0), self.run.agent
        generator = torch.Generator(agent.device).manual_seed(0)
        with self.metrics.timer("validate"):
            for _ in range(BATCHES):
                self.metrics.add(validate(agent, self.replay.sample(rng), generator))


def open_held_out(path: Path, config: Config) -> ReplayBuffer | None:
    """Open the replay of held-out episodes for reading; None if there is none, or no sequence can be drawn from it."""
    if not path.exists():
        return None
    held_out = ReplayBuffer(path, config=replace(config.replay, sampling="steps"))
    try:
        held_out.check_sampleable()
    except ReplayError:
        held_out.close()
        return None
    return held_out

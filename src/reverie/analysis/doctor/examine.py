"""All measurements on one run: what is read, passed through the model once, and put together."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reverie.acting import autocast
from reverie.agent import Dreamer
from reverie.analysis.doctor.calibration import Discounts, Rewards, measure_discounts, measure_rewards
from reverie.analysis.doctor.latents import Latents, measure_latents
from reverie.analysis.doctor.learning import Learning, measure_learning
from reverie.analysis.doctor.policy import Policy, measure_policy
from reverie.analysis.doctor.prediction import Errors, Horizons, add, horizons, open_loop_errors
from reverie.analysis.doctor.values import Comparison, Values, compare, replay_returns
from reverie.behavior.imagination import draw_imagination_noise, imagine
from reverie.behavior.losses import add_entropy, value_targets
from reverie.config import Config
from reverie.errors import RunError
from reverie.replay import ReplayReader
from reverie.spaces import Array, Step
from reverie.training.loading import load
from reverie.training.metrics import read_metrics
from reverie.training.run_folder import RunFolder, find_run
from reverie.world_model.model import Batch
from reverie.world_model.rssm import State

ENDINGS = 64
"""Ends of episodes that are looked up besides the uniform sample, where they are rare."""


@dataclass(frozen=True)
class Amount:
    """How much is looked at."""

    batches: int = 8
    """Batches of 16 sequences."""
    context: int = 5
    """Steps that the model sees before it imagines."""
    horizon: int = 45
    """H: steps that it then imagines. With the context, the length T of all sequences."""
    batch: int = 16
    """B."""

    @property
    def length(self) -> int:
        """T."""
        return self.context + self.horizon


@dataclass(frozen=True)
class Report:
    """What was measured on a run."""

    run: str
    config: Config
    agent_steps: int
    updates: int
    steps_seen: int
    """Steps of the replay that the measurements rest on."""
    replay_steps: int
    context: int
    latents: Latents
    predictions: dict[str, Horizons]
    """By observation key, and `reward`; images first."""
    images: tuple[str, ...]
    """Which of them are images."""
    rewards: Rewards
    discounts: Discounts | None
    """None where the discount is a constant."""
    values: Values
    policy: Policy
    learning: Learning
    rows: list[dict[str, float]] = field(default_factory=list, repr=False)
    """Of `metrics.jsonl`."""
    points: tuple[Array, Array] = field(default=(np.empty(0), np.empty(0)), repr=False)
    """Values and returns of single states, for a picture."""
    unseen: "Report | None" = None
    """The same model on the replay of another run, which it has not learned from; None if none was given."""

    @property
    def frames(self) -> int:
        """Environment frames so far."""
        return self.agent_steps * self.config.env.action_repeat

    @property
    def observation(self) -> str:
        """The observation that findings speak of: the first image, or else the first vector; empty if none."""
        return next((key for key in self.predictions if key != "reward"), "")


class Seen(NamedTuple):
    """What one batch [T, B, …] comes to."""

    posterior: Tensor
    prior: Tensor
    feat: Tensor
    reward: Tensor
    predicted_reward: Tensor
    discount: Tensor
    is_terminal: Tensor
    value: Tensor
    imagined: Tensor
    """Lambda-returns in imagination."""
    replayed: Tensor
    """Discounted returns in the replay."""


def examine(
    run: Path,
    amount: Amount | None = None,
    seed: int | None = None,
    device: str = "auto",
    unseen: Path | None = None,
) -> Report:
    """Measure everything about a run. Nothing in its folder is written, and it may still be training.

    Args:
        run: a run folder (its newest checkpoint), or one of its checkpoints.
        amount: how much is looked at; None takes the defaults.
        seed: of the draws; None takes the run's.
        device: where the agent runs.
        unseen: another run of the same environment, whose replay is looked at, too.

    Raises:
        RunError: if there is no run, or it has no replay, or `unseen` is not another run of its environment.
        CheckpointError: if it has no checkpoint.
        ReplayError: if a replay is too short, or damaged.
    """
    amount = amount or Amount()
    checkpoint = find_run(run).checkpoint
    folder = _with_replay(run)
    other = None if unseen is None else _with_replay(unseen)
    agent = load(checkpoint, device)
    if other is not None:
        _check_other(folder, other, agent.config)
    seed = agent.config.training.seed if seed is None else seed
    report = replace(_measure_replay(agent, folder, amount, seed), run=str(run))
    rows = read_metrics(folder.path) if folder.metrics.is_file() else []
    report = replace(report, rows=rows, learning=measure_learning(rows, agent.config))
    if other is None:
        return report
    return replace(report, unseen=replace(_measure_replay(agent, other, amount, seed), run=str(unseen)))


def _with_replay(run: Path) -> RunFolder:
    """The folder of a run that still has its replay."""
    folder = RunFolder(find_run(run).checkpoint.parent.parent)
    if not (folder.replay / "index.json").is_file():
        raise RunError(f"{run} has no replay beside it to look at; give the folder of the run that trained this agent.")
    return folder


def _check_other(folder: RunFolder, other: RunFolder, config: Config) -> None:
    if other.path.samefile(folder.path):
        raise RunError(f"{other.path} is the run itself, which has seen its own replay; give another run.")
    name = other.saved_config().env.name
    if name != config.env.name:
        raise RunError(f"{other.path} is a run of {name}; give another run of {config.env.name}.")


def _measure_replay(agent: Dreamer, folder: RunFolder, amount: Amount, seed: int) -> Report:
    """Measure an agent on sequences of the replay of a run."""
    rng = np.random.default_rng(seed)
    with ReplayReader(folder.replay, agent.spec.step) as reader:
        batches = [reader.windows(rng, amount.length, amount.batch) for _ in range(amount.batches)]
        endings = reader.endings(rng, amount.length, ENDINGS)
        held = reader.num_steps
    generator = torch.Generator(agent.device).manual_seed(seed)
    return replace(measure(agent, batches, endings, amount.context, generator), replay_steps=held)


@torch.no_grad()
def measure(
    agent: Dreamer, batches: list[Step], endings: Step | None, context: int, generator: torch.Generator
) -> Report:
    """Measure an agent on sequences of raw steps.

    Args:
        agent: looked at, not changed.
        batches: [T, B, …] each, drawn uniformly.
        endings: sequences [T, E, …] whose last step ends an episode; only those that are terminal are used.
        context: steps that the model sees before it imagines.
        generator: of all samples.
    """
    means = _means(agent, batches)
    seen: list[Seen] = []
    errors: dict[str, Errors] = {}
    with autocast(agent.device, agent.config):
        for steps in batches:
            data, posterior, prior = _filter(agent, steps, generator)
            seen.append(_look(agent, data, posterior, prior, generator))
            for key, new in open_loop_errors(agent, data, posterior, context, means, generator).items():
                errors[key] = add(errors.get(key), new)
        at_ends = _discounts_at_ends(agent, endings, generator)
        parts = {name: torch.cat([getattr(one, name) for one in seen], 1) for name in Seen._fields}
        feat = parts["feat"].flatten(0, 1)
        policy = measure_policy(agent.behavior.actor(feat))
    flat = {name: value.flatten(0, 1) for name, value in parts.items()}
    values, points = _values(parts, context)
    gamma = agent.config.world_model.discount
    predicts = agent.config.world_model.predict_discount and gamma > 0
    images = tuple(agent.world_model.decoder.keys.images)
    return Report(
        run="",
        config=agent.config,
        agent_steps=agent.agent_steps,
        updates=agent.updates,
        steps_seen=len(feat),
        replay_steps=0,
        context=context,
        latents=measure_latents(agent.world_model.rssm.latents, flat["posterior"].float(), flat["prior"].float()),
        predictions={key: horizons(sums) for key, sums in errors.items()},
        images=images,
        rewards=measure_rewards(flat["predicted_reward"], flat["reward"]),
        discounts=measure_discounts(flat["discount"], flat["is_terminal"], at_ends, gamma) if predicts else None,
        values=values,
        policy=policy,
        learning=measure_learning([], agent.config),
        points=points,
    )


def _means(agent: Dreamer, batches: list[Step]) -> dict[str, Tensor]:
    """Mean of each observation that is predicted, and of the rewards, preprocessed; one batch at a time."""
    keys = [*agent.world_model.decoder.keys.images, *agent.world_model.decoder.keys.vectors, "reward"]
    sums: dict[str, Tensor] = {}
    for steps in batches:
        chosen = agent.world_model.preprocess(agent.to_tensors({key: steps[key] for key in _raw(agent, keys)}))
        for key in keys:
            mean = chosen[key].flatten(0, 1).mean(0) / len(batches)
            sums[key] = sums[key] + mean if key in sums else mean
    return sums


def _raw(agent: Dreamer, keys: list[str]) -> list[str]:
    """What `preprocess` needs for these keys: the norm of vectors reads all of them together."""
    vectors = [key for key, spec in agent.spec.observations.items() if not spec.is_image]
    return list(dict.fromkeys([*keys, *vectors]))


def _filter(agent: Dreamer, steps: Step, generator: torch.Generator) -> tuple[Batch, State, Tensor]:
    """Preprocessed steps, posterior states and the prior's statistics, each [T, B, …]."""
    model = agent.world_model
    data = model.preprocess(agent.to_tensors(steps))
    length, size = data["is_first"].shape
    noise = model.rssm.latents.draw_noise((length, size), generator)
    posterior, prior = model.rssm.observe(model.encoder(data), data["action"], data["is_first"], noise=noise)
    return data, posterior.map(torch.Tensor.float), prior


def _look(agent: Dreamer, data: Batch, posterior: State, prior: Tensor, generator: torch.Generator) -> Seen:
    """Heads, values and returns of a batch."""
    model, behavior = agent.world_model, agent.behavior
    norm = deepcopy(behavior.reward_norm)  # it may learn from what it sees
    value = behavior.critic(posterior.feat)
    start = posterior.map(lambda part: part.flatten(0, 1))
    noise = draw_imagination_noise(model, behavior.actor, behavior.config.horizon, len(start.deter), generator)
    trajectory = imagine(model, behavior.actor, start, data["is_terminal"].flatten(), behavior.config.horizon, noise)
    rewards = norm(trajectory.reward)
    if behavior.config.long_term_entropy:
        weight = behavior.scalars(agent.agent_steps)["entropy_weight"]
        rewards = add_entropy(rewards, behavior.actor, trajectory, weight)
    trajectory = trajectory._replace(reward=rewards)
    critic = behavior.target_critic if behavior.config.critic.slow_target else behavior.critic
    target = value_targets(trajectory, critic(trajectory.feat), behavior.config.lambda_)[0]
    gamma = model.config.discount
    discount = data["discount"] if model.config.predict_discount else torch.full_like(data["reward"], gamma)
    return Seen(
        posterior=posterior.stats,
        prior=prior,
        feat=posterior.feat,
        reward=data["reward"],
        predicted_reward=model.reward(posterior.feat),
        discount=model.discount(posterior.feat),
        is_terminal=data["is_terminal"],
        value=value,
        imagined=target.unflatten(0, value.shape),
        replayed=replay_returns(norm(data["reward"]), value, discount, data["is_last"]),
    )


def _discounts_at_ends(agent: Dreamer, endings: Step | None, generator: torch.Generator) -> Tensor:
    """Predicted discounts [E] of the terminal ones among the last steps of these sequences."""
    if endings is None or not endings["is_terminal"][-1].any() or not agent.config.world_model.predict_discount:
        return torch.empty(0, device=agent.device)
    chosen = {key: value[:, endings["is_terminal"][-1]] for key, value in endings.items()}
    _, posterior, _ = _filter(agent, chosen, generator)
    return agent.world_model.discount(posterior.feat[-1])


def _values(parts: dict[str, Tensor], context: int) -> tuple[Values, tuple[Array, Array]]:
    """Comparisons, and single states for a picture.

    Returns of the replay are taken where the model has seen `context` steps, and half the sequence is still to come.
    """
    value, length = parts["value"], len(parts["value"])
    imagined = compare(value, parts["imagined"])
    known = slice(context, max(length // 2, context))
    replayed: Comparison | None = None
    points = (value, parts["imagined"])
    if length // 2 > context:
        points = (value[known], parts["replayed"][known])
        replayed = compare(*points)
    x, y = (part.flatten().float().cpu().numpy() for part in points)
    return Values(imagined, replayed), (x, y)

"""Examine a run on disk: its newest checkpoint, sequences of its replay or another one's, its metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reverie.acting import to_tensors
from reverie.agents import load
from reverie.analysis.diagnose import statistics
from reverie.analysis.diagnose.learning import measure_learning, measure_speed
from reverie.analysis.diagnose.prediction import measure_prediction, open_loop_errors
from reverie.analysis.format import Measures
from reverie.config import flatten
from reverie.dreamer import Dreamer, State
from reverie.dreamer.world_model import Batch
from reverie.errors import RunError
from reverie.replay import ReplayReader
from reverie.runs.metrics import read_metrics
from reverie.runs.run_folder import RunFolder, find_checkpoint
from reverie.specs import Step

ENDINGS = 64  # ends of episodes that are drawn on purpose: they are rare in the uniform sample

Report = Measures
"""Measures of a run, those of a section together; what cannot be known is nan."""


def examine(
    run: Path,
    holdout: Path | None = None,
    batches: int = 8,
    context: int = 5,
    horizon: int = 45,
    seed: int | None = None,
    device: str = "auto",
    batch_size: int = 16,
) -> Report:
    """Measure everything about a run. Nothing in its folder is written, and it may still be training.

    Args:
        run: a run folder (its newest checkpoint), or one of its checkpoints.
        holdout: another run of the same environment, whose replay is examined, too.
        batches: number of batches that are drawn.
        context: steps of a sequence that the model sees.
        horizon: H, steps that it then imagines.
        seed: of the draws; None takes the run's.
        device: where the agent runs.
        batch_size: B, sequences of a batch.

    Raises:
        RunError: if there is no run, or it has no replay, or `holdout` is not another run of its environment
            or has seen nothing else.
        CheckpointError: if it has no checkpoint.
        ReplayError: if a replay is too short, or damaged.
    """
    folder = _find(run)
    other = holdout and _find_holdout(holdout, folder)
    agent = load(find_checkpoint(run), device)
    seed = agent.config.training.seed if seed is None else seed
    rows = read_metrics(folder.path) if folder.metrics.is_file() else []

    def measure_replay(reader: ReplayReader, path: Path) -> Report:
        rng, generator = np.random.default_rng(seed), torch.Generator(agent.device).manual_seed(seed)
        drawn = [reader.windows(rng, context + horizon, batch_size) for _ in range(batches)]
        endings = reader.endings(rng, context + horizon, ENDINGS)
        report = measure(agent, drawn, endings, context, generator, rows)
        report.run, report.replay_steps = str(path), reader.num_steps
        return report

    with ReplayReader(folder.replay, agent.spec.step) as own:
        report = measure_replay(own, run)
        if holdout and other:
            with ReplayReader(other.replay, agent.spec.step) as reader:
                shared = reader.leave_out_shared(own)
                if shared and reader.longest < context + horizon:
                    raise RunError(
                        f"--holdout: all but {reader.num_steps} steps in the replay of {holdout} are in that of the "
                        "run itself; give a run with another --seed, or a longer one."
                    )
                report.holdout = measure_replay(reader, holdout)
                report.holdout.shared_steps = shared
    return report


def _find(path: Path) -> RunFolder:
    folder = RunFolder(find_checkpoint(path).parent.parent)
    if not folder.replay.is_file():
        raise RunError(f"{path} has no replay to examine; give the folder of a run that still has its own.")
    return folder


def _find_holdout(path: Path, run: RunFolder) -> RunFolder:
    folder = _find(path)
    if folder.path.samefile(run.path):
        raise RunError(f"--holdout: {path} is the run itself, which has seen its own replay; give another run.")
    theirs, ours = (flatten(one.saved_config().env) for one in (folder, run))
    for name in theirs:
        if theirs[name] != ours[name] and name not in ("num_envs", "parallel"):
            raise RunError(
                f"--holdout: {path} has env.{name} {theirs[name]}, and the run has {ours[name]}; give a run with the "
                "same settings of the environment."
            )
    return folder


@torch.no_grad()
def measure(
    agent: Dreamer,
    batches: list[Step],
    endings: Step | None,
    context: int,
    generator: torch.Generator,
    rows: Sequence[Mapping[str, float]] = (),
) -> Report:
    """Measure an agent, which is not changed, on batches [T, B, …] of raw steps that were drawn uniformly.

    The last steps of `endings` [T, E, …] end an episode; those that are terminal are used. The model sees `context`
    steps before it imagines. All samples come from the generator; rows are those of `metrics.jsonl`.
    """
    means = _means(agent, batches)
    seen: list[dict[str, Tensor]] = []
    errors: dict[str, Tensor] = {}
    with agent.autocast():
        for steps in batches:
            data, posterior = _filter(agent, steps, generator)
            seen.append(_outputs(agent, data, posterior, generator))
            for key, new in open_loop_errors(agent, data, posterior, context, means, generator).items():
                errors[key] = errors[key] + new if key in errors else new
        at_ends = _discounts_at_ends(agent, endings, generator)
        parts = {name: torch.cat([one[name] for one in seen], 1) for name in seen[0]}
        flat = {name: value.flatten(0, 1) for name, value in parts.items()}
        actor = statistics.measure_policy(agent.actor_critic.actor(flat["feat"]))
    config, model = agent.config, agent.world_model
    gamma = config.world_model.discount
    predicts = config.world_model.predict_discount and gamma > 0
    ends = flat["discount"], flat["is_terminal"], at_ends
    pairs = {"imagined": (parts["value"], parts["imagined"])}
    half = len(parts["value"]) // 2  # where half of the sequence is still to come, and the model has seen its context
    if half > context:
        pairs["replayed"] = (parts["value"][context:half], parts["replayed"][context:half])
    return Report(
        run="",
        config=config,
        environment=config.env.name,
        agent_steps=agent.agent_steps,
        frames=agent.agent_steps * config.env.action_repeat,
        updates=agent.updates,
        steps_seen=len(flat["feat"]),  # steps of the replay that were examined
        replay_steps=0,  # steps that they were drawn from
        shared_steps=0,  # of a holdout: first steps that the run itself has, too, and that were left out
        context=context,
        observation=next(iter(errors)),  # that findings refer to: the first image, or else the first vector
        images=list(model.decoder.keys.images),
        latents=statistics.measure_latents(model.rssm.latents, flat["posterior"].float(), flat["prior"].float()),
        prediction={key: measure_prediction(sums, config.behavior.horizon) for key, sums in errors.items()},
        # Rewards, values and returns are in the space of `reward_transform`.
        reward=statistics.measure_rewards(flat["predicted_reward"], flat["reward"]),
        discount=statistics.measure_discounts(*ends, gamma) if predicts else None,
        value={name: statistics.compare(*pair) for name, pair in pairs.items()},
        actor=actor,
        learning=measure_learning(rows, config),
        speed=measure_speed(rows),
        holdout=None,  # the same model on the replay of another run
        points=[part.flatten().float().cpu().numpy() for part in pairs.get("replayed", pairs["imagined"])],
    )


def _means(agent: Dreamer, batches: list[Step]) -> dict[str, Tensor]:
    """Return the mean of each predicted observation and of the rewards, preprocessed, one batch at a time."""
    model = agent.world_model
    sums: dict[str, Tensor] = {}
    for steps in batches:
        data = model.preprocess(to_tensors(steps, agent.device))
        for key in (*model.decoder.keys.images, *model.decoder.keys.vectors, "reward"):
            mean = data[key].flatten(0, 1).mean(0) / len(batches)
            sums[key] = sums[key] + mean if key in sums else mean
    return sums


def _filter(agent: Dreamer, steps: Step, generator: torch.Generator) -> tuple[Batch, State]:
    """Return preprocessed steps and posterior states, each [T, B, …]."""
    noise = agent.world_model.rssm.latents.draw_noise(tuple(steps["is_first"].shape), generator)
    batch, posterior, _ = agent.world_model.infer(to_tensors(steps, agent.device), noise=noise)
    return batch, posterior.map(torch.Tensor.float)


def _outputs(agent: Dreamer, data: Batch, posterior: State, generator: torch.Generator) -> dict[str, Tensor]:
    """Return statistics, heads, values, lambda-returns and discounted returns of a batch, [T, B, …] each."""
    model, actor_critic = agent.world_model, agent.actor_critic
    value = actor_critic.critic(posterior.feat)
    start = posterior.map(lambda part: part.flatten(0, 1))
    noise = actor_critic.draw_noise(model, len(start.deter), generator)
    weights = actor_critic.scheduled_values(agent.agent_steps)
    imagined = actor_critic.imagine_targets(model, start, data["is_terminal"].flatten(), noise, weights)
    rewards = actor_critic.reward_norm(data["reward"])
    constant = torch.full_like(rewards, model.config.discount)
    discount = data["discount"] if model.config.predict_discount else constant
    return {
        "posterior": posterior.stats,
        "prior": model.rssm.prior(posterior.deter),
        "feat": posterior.feat,
        "reward": data["reward"],
        "predicted_reward": model.reward(posterior.feat),
        "discount": model.discount(posterior.feat),
        "is_terminal": data["is_terminal"],
        "value": value,
        "imagined": imagined.target[0].unflatten(0, value.shape),
        "replayed": statistics.replay_returns(rewards, value, discount, data["is_last"]),
    }


def _discounts_at_ends(agent: Dreamer, endings: Step | None, generator: torch.Generator) -> Tensor:
    """Return the predicted discounts [E] of the last steps of these sequences, where they are terminal."""
    if endings is None or not endings["is_terminal"][-1].any() or not agent.config.world_model.predict_discount:
        return torch.empty(0, device=agent.device)
    chosen = {key: value[:, endings["is_terminal"][-1]] for key, value in endings.items()}
    _, posterior = _filter(agent, chosen, generator)
    return agent.world_model.discount(posterior.feat[-1])

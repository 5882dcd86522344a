"""Measure an agent: sequences pass through the model once, for all parts of the report."""

import torch
from torch import Tensor

from reverie.acting import to_tensors
from reverie.analysis.diagnose.heads import compare, measure_discounts, measure_policy, measure_rewards, replay_returns
from reverie.analysis.diagnose.latents import measure_latents
from reverie.analysis.diagnose.learning import measure_learning
from reverie.analysis.diagnose.prediction import horizons, open_loop_errors
from reverie.analysis.diagnose.report import Report
from reverie.analysis.format import Measures
from reverie.dreamer import Dreamer, State
from reverie.dreamer.world_model import Batch
from reverie.specs import Array, Step


@torch.no_grad()
def measure(
    agent: Dreamer, batches: list[Step], endings: Step | None, context: int, generator: torch.Generator
) -> Report:
    """Measure an agent, which is not changed, on batches [T, B, …] of raw steps that were drawn uniformly.

    The last steps of `endings` [T, E, …] end an episode; those that are terminal are used. The model sees `context`
    steps before it imagines. All samples come from the generator.
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
        policy = measure_policy(agent.actor_critic.actor(flat["feat"]))
    values, points = _values(parts, context)
    gamma = agent.config.world_model.discount
    predicts = agent.config.world_model.predict_discount and gamma > 0
    return Report(
        run="",
        config=agent.config,
        agent_steps=agent.agent_steps,
        updates=agent.updates,
        steps_seen=len(flat["feat"]),
        replay_steps=0,
        context=context,
        latents=measure_latents(agent.world_model.rssm.latents, flat["posterior"].float(), flat["prior"].float()),
        predictions={key: horizons(sums) for key, sums in errors.items()},
        images=tuple(agent.world_model.decoder.keys.images),
        rewards=measure_rewards(flat["predicted_reward"], flat["reward"]),
        discounts=measure_discounts(flat["discount"], flat["is_terminal"], at_ends, gamma) if predicts else None,
        values=values,
        policy=policy,
        learning=measure_learning([], agent.config),
        points=points,
    )


def _means(agent: Dreamer, batches: list[Step]) -> dict[str, Tensor]:
    """Return the mean of each predicted observation and of the rewards, preprocessed, one batch at a time."""
    model = agent.world_model
    keys = [*model.decoder.keys.images, *model.decoder.keys.vectors, "reward"]
    # The norm of vectors reads all of them together.
    raw = {*keys, *(key for key, spec in agent.spec.observations.items() if not spec.is_image)}
    sums: dict[str, Tensor] = {}
    for steps in batches:
        chosen = model.preprocess(to_tensors({key: steps[key] for key in raw}, agent.device))
        for key in keys:
            mean = chosen[key].flatten(0, 1).mean(0) / len(batches)
            sums[key] = sums[key] + mean if key in sums else mean
    return sums


def _filter(agent: Dreamer, steps: Step, generator: torch.Generator) -> tuple[Batch, State]:
    """Return preprocessed steps and posterior states, each [T, B, …]."""
    noise = agent.world_model.rssm.latents.draw_noise(tuple(steps["is_first"].shape), generator)
    batch, posterior = agent.world_model.infer(to_tensors(steps, agent.device), noise=noise)
    return batch, posterior.map(torch.Tensor.float)


def _outputs(agent: Dreamer, data: Batch, posterior: State, generator: torch.Generator) -> dict[str, Tensor]:
    """Return statistics, heads, values, lambda-returns and discounted returns of a batch, [T, B, …] each."""
    model, actor_critic = agent.world_model, agent.actor_critic
    value = actor_critic.critic(posterior.feat)
    start = posterior.map(lambda part: part.flatten(0, 1))
    noise = actor_critic.draw_noise(model, len(start.deter), generator)
    weights = actor_critic.scheduled_values(agent.agent_steps)
    imagined = actor_critic.imagine_targets(model, start, data["is_terminal"].flatten(), noise, weights)
    constant = torch.full_like(data["reward"], model.config.discount)
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
        "replayed": replay_returns(actor_critic.reward_norm(data["reward"]), value, discount, data["is_last"]),
    }


def _discounts_at_ends(agent: Dreamer, endings: Step | None, generator: torch.Generator) -> Tensor:
    """Return the predicted discounts [E] of the last steps of these sequences, where they are terminal."""
    if endings is None or not endings["is_terminal"][-1].any() or not agent.config.world_model.predict_discount:
        return torch.empty(0, device=agent.device)
    chosen = {key: value[:, endings["is_terminal"][-1]] for key, value in endings.items()}
    _, posterior = _filter(agent, chosen, generator)
    return agent.world_model.discount(posterior.feat[-1])


def _values(parts: dict[str, Tensor], context: int) -> tuple[Measures, tuple[Array, Array]]:
    """Return comparisons, and single states for a picture.

    Returns of the replay are taken where the model has seen `context` steps, and half the sequence is still to come.
    """
    points = parts["value"], parts["imagined"]
    found = Measures(imagined=compare(*points), replayed=None)
    half = len(parts["value"]) // 2
    if half > context:
        points = parts["value"][context:half], parts["replayed"][context:half]
        found.replayed = compare(*points)
    x, y = (part.flatten().float().cpu().numpy() for part in points)
    return found, (x, y)

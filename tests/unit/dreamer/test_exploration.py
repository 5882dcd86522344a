"""Exploration against an ensemble in numpy, finite differences, and what must not change for the task."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reverie import agents, kernels
from reverie.dreamer import Dreamer
from reverie.dreamer.exploration import LearningExplorer, ModelLoss, Plan2Explore, RandomExplorer
from reverie.dreamer.imagination import Trajectory
from reverie.errors import ConfigError
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from tests.helpers.agents import CONTINUOUS, DISCRETE, MULTI_DISCRETE, random_steps, tensors, tiny

VECTOR = {"position": ArraySpec((3,), "float32")}
SMALL = {"exploration__head__units": 7, "exploration__head__layers": 2, "exploration__head__models": 3}
Floats = NDArray[np.float64]


def build(explore: str = "plan2explore", action: ActionSpec = DISCRETE, **settings: Any) -> Dreamer:
    config = tiny(training__explore=explore, **SMALL, **settings)
    return Dreamer(config, EnvSpec(VECTOR, action), seed=1)


def plan2explore(agent: Dreamer) -> Plan2Explore:
    assert isinstance(agent.explorer, Plan2Explore)
    return agent.explorer


def random_trajectory(agent: Dreamer, horizon: int = 4, number: int = 5) -> Trajectory:
    generator = torch.Generator().manual_seed(0)
    feat = torch.randn(horizon + 1, number, agent.world_model.rssm.feat_size, generator=generator)
    action = torch.randn(horizon + 1, number, agent.spec.action.size, generator=generator)
    reward, rest = torch.randn(horizon + 1, number, generator=generator), torch.ones(horizon + 1, number)
    return Trajectory(feat, action, reward, rest, rest)


def numpy_mlp(head: nn.Module, inputs: Floats) -> Floats:
    """Two hidden layers with ELU and a linear output."""
    weights = [parameter.detach().double().numpy() for parameter in head.parameters()]
    x = inputs
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        x = x @ weight.T + bias
        if weight is not weights[-2]:
            x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    return x


def as_numpy(*values: Tensor) -> list[Floats]:
    return [value.double().numpy() for value in values]


@pytest.mark.parametrize("action", ["previous", "next", "none"])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("spread", ["std", "variance"])
def test_plan2explore_reward_is_the_spread_of_the_members(action: str, log: bool, spread: str) -> None:
    head = {"exploration__head__action": action, "exploration__head__log": log, "exploration__head__spread": spread}
    agent = build(**head, exploration__intrinsic_scale=2.0)
    explorer, trajectory = plan2explore(agent), random_trajectory(agent)
    found = explorer.reward(trajectory)
    feat, actions = as_numpy(trajectory.feat, trajectory.action)
    for t in range(5):
        for n in range(5):
            source = max(t - 1, 0) if action == "next" else t  # the start state has the reward of the next one
            paired = {"previous": [actions[t, n]], "next": [actions[max(t, 1), n]], "none": []}[action]
            inputs = np.concatenate([feat[source, n], *paired])
            members = np.array([numpy_mlp(head, inputs) for head in explorer.heads.members])
            center = members.mean(0)
            variance = np.mean((members - center) ** 2, axis=0)
            size = np.mean(variance if spread == "variance" else np.sqrt(variance))
            assert float(found[t, n]) == pytest.approx(2 * (np.log(size) if log else size), rel=1e-4)


@pytest.mark.parametrize("spread", ["std", "variance"])
def test_members_that_agree_have_no_spread_and_a_finite_gradient(spread: str) -> None:
    agent = build(exploration__head__spread=spread)
    explorer, trajectory = plan2explore(agent), random_trajectory(agent)
    first, *others = explorer.heads.members
    for member in others:
        member.load_state_dict(first.state_dict())
    feat = trajectory.feat.detach().requires_grad_()
    found = explorer.heads.disagreement(feat, trajectory.action)
    found.sum().backward()
    assert feat.grad is not None
    assert float(found.detach().max()) < 1e-6 and bool(feat.grad.isfinite().all())


def test_plan2explore_adds_the_normalised_reward_of_the_task() -> None:
    norm = {"exploration__reward_norm__momentum": 0.9, "exploration__extrinsic_scale": 0.5}
    agent = build(**norm)
    explorer, trajectory = plan2explore(agent), random_trajectory(agent)
    spread = explorer.heads.disagreement(trajectory.feat, trajectory.action)
    found = explorer.reward(trajectory, update_norms=True)
    sizes = [0.9 + 0.1 * float(value.abs().mean()) for value in (spread, trajectory.reward)]
    expected = spread / sizes[0] + 0.5 * trajectory.reward / sizes[1]
    assert torch.allclose(found, expected, rtol=1e-5)
    assert torch.allclose(explorer.reward(trajectory), expected, rtol=1e-5)  # without an update, the same again
    assert torch.allclose(explorer.reward(trajectory, torch.tensor(False)), expected, rtol=1e-5)


@pytest.mark.parametrize("target", ["stoch", "deter", "feat", "embed"])
@pytest.mark.parametrize("action", ["previous", "next", "none"])
def test_plan2explore_loss_predicts_the_next_step_of_the_same_episode(action: str, target: str) -> None:
    agent = build(exploration__head__action=action, exploration__head__target=target)
    explorer, rssm = plan2explore(agent), agent.world_model.rssm
    size = {"stoch": rssm.feat_size - rssm.deter_size, "deter": rssm.deter_size, "feat": rssm.feat_size}
    generator = torch.Generator().manual_seed(0)
    feat = torch.randn(6, 2, rssm.feat_size, generator=generator)
    width = size.get(target, agent.world_model.encoder.output_size)
    targets = {target: torch.randn(6, 2, width, generator=generator)}
    actions = torch.randn(6, 2, 4, generator=generator)
    is_first = torch.zeros(6, 2, dtype=torch.bool)
    is_first[0] = is_first[3, 1] = True
    found = explorer.heads.loss(feat, targets, actions, is_first)[0]
    x, y, a = as_numpy(feat, targets[target], actions)
    total = 0.0
    for t in range(5):
        for b in range(2):
            if (t, b) == (2, 1):  # step 3 begins another episode
                continue
            paired = {"previous": [a[t, b]], "next": [a[t + 1, b]], "none": []}[action]
            for head in explorer.heads.members:
                error = y[t + 1, b] - numpy_mlp(head, np.concatenate([x[t, b], *paired]))
                total += np.sum(0.5 * error**2 + 0.5 * np.log(2 * np.pi))
    assert found.item() == pytest.approx(total / 10, rel=1e-5)


def test_plan2explore_loss_has_the_gradient_of_finite_differences() -> None:
    agent = build()
    explorer, rssm = plan2explore(agent), agent.world_model.rssm
    generator = torch.Generator().manual_seed(0)
    arguments = (
        torch.randn(4, 3, rssm.feat_size, generator=generator),
        {"stoch": torch.randn(4, 3, rssm.feat_size - rssm.deter_size, generator=generator)},
        torch.randn(4, 3, 4, generator=generator),
        torch.zeros(4, 3, dtype=torch.bool),
    )
    weights = list(explorer.heads.parameters())
    gradients = torch.autograd.grad(explorer.heads.loss(*arguments)[0], weights)
    direction = [torch.randn(weight.shape, generator=generator) for weight in weights]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    assert directional(lambda: explorer.heads.loss(*arguments)[0], weights, direction) == pytest.approx(slope, rel=1e-2)


def directional(loss: Any, weights: list[nn.Parameter], direction: list[Tensor], size: float = 1e-3) -> float:
    """Return the slope of a loss along a direction of the weights, by a central difference."""
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for weight, step in zip(weights, direction, strict=True):
                weight.add_(step, alpha=sign * size)
            values.append(loss().item())
            for weight, step in zip(weights, direction, strict=True):
                weight.sub_(step, alpha=sign * size)
    return (values[0] - values[1]) / (2 * size)


@pytest.mark.parametrize("action", ["previous", "next"])
def test_explorers_actor_climbs_the_disagreement_through_the_dynamics(action: str) -> None:
    """Two steps, Gaussian latents, modes, values of zero: then the actor's loss is the first step's reward."""
    settings = {"world_model__rssm__latents": "gaussian", "behavior__actor__entropy": 0.0, "behavior__horizon": 2}
    agent = build(action=CONTINUOUS, exploration__head__action=action, **settings)
    explorer, actor_critic = plan2explore(agent), plan2explore(agent).actor_critic
    for weight in actor_critic.target_critic.parameters():
        nn.init.zeros_(weight)
    start = agent.world_model.rssm.initial((3,)).map(lambda part: part + 0.1)
    ended = torch.zeros(3, dtype=torch.bool)
    actor = list(actor_critic.actor.parameters())

    def loss() -> Tensor:
        return actor_critic.loss(agent.world_model, start, ended, None, reward_function=explorer.reward).actor

    others = [*explorer.heads.parameters(), *agent.world_model.parameters()]
    gradients = torch.autograd.grad(loss(), [*actor, *others], allow_unused=True)
    assert all(gradient is None for gradient in gradients[len(actor) :])
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(weight.shape, generator=generator) for weight in actor]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=False) if g is not None)
    assert abs(slope) > 1e-5
    assert directional(loss, actor, direction, 2e-3) == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("explore", ["plan2explore", "model-loss", "random"])
def test_exploring_agent_learns_the_task_as_a_greedy_one(explore: str) -> None:
    """One update: the same batch, weights and noise give the same bits."""
    greedy, exploring = build("greedy"), build(explore)
    batch = tensors(random_steps(greedy.spec, (6, 3)))
    expected, found = greedy.train_step(batch), exploring.train_step(batch)
    for name, value in greedy.state_dict().items():
        assert torch.equal(exploring.state_dict()[name], value), name
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("explore", ["plan2explore", "model-loss"])
def test_update_changes_every_weight_of_the_explorer(explore: str) -> None:
    agent = build(explore)
    assert isinstance(agent.explorer, LearningExplorer)
    before = {name: value.clone() for name, value in agent.explorer.named_parameters()}
    for seed in range(2):
        metrics = agent.train_step(tensors(random_steps(agent.spec, (6, 3), seed)))
    same = [name for name, value in agent.explorer.named_parameters() if torch.equal(value, before[name])]
    assert same == []
    assert {"heads/loss", "explore/actor/loss", "explore/imagination/reward_mean"} <= metrics.keys()
    assert all(bool(value.isfinite()) for value in metrics.values())


def test_model_loss_learns_the_kl() -> None:
    agent = build("model-loss", exploration__head__optimizer__lr=1e-2)
    explorer = agent.explorer
    assert isinstance(explorer, ModelLoss)
    feat = torch.randn(8, 4, agent.world_model.rssm.feat_size, generator=torch.Generator().manual_seed(0))
    kl = feat[..., 0].abs()
    optimizer = agent.optimizers["heads"]
    for _ in range(300):
        loss = explorer.heads.loss(feat, {"kl": kl}, torch.zeros(8, 4, 4), torch.zeros(8, 4, dtype=torch.bool))[0]
        optimizer.step(loss, 1e-2)
    trajectory = random_trajectory(agent)._replace(feat=feat)
    assert torch.allclose(explorer.reward(trajectory), kl, atol=0.2)


def test_disagreement_falls_where_the_next_step_is_known_and_not_elsewhere() -> None:
    """Members that are trained on half of the states agree there, and disagree on the other half."""
    agent = build(exploration__head__optimizer__lr=3e-3)
    explorer, rssm = plan2explore(agent), agent.world_model.rssm
    generator = torch.Generator().manual_seed(0)
    feat = torch.randn(2, 40, rssm.feat_size, generator=generator)
    target = torch.randn(2, 40, rssm.feat_size - rssm.deter_size, generator=generator)
    action, first = torch.zeros(2, 40, 4), torch.zeros(2, 40, dtype=torch.bool)
    first[1, 20:] = True  # these have no successor
    optimizer = agent.optimizers["heads"]
    for _ in range(400):
        optimizer.step(explorer.heads.loss(feat, {"stoch": target}, action, first)[0], 3e-3)
    spread = explorer.heads.disagreement(feat, action)[0]
    assert float(spread[:20].mean()) < 0.6 * float(spread[20:].mean())


@pytest.mark.parametrize("explore", ["plan2explore", "random"])
def test_explorer_collects_until_its_step_and_never_evaluates(explore: str) -> None:
    agent = build(explore, exploration__until=100)
    assert agent.explorer is not None
    policy, copy = agent.collecting_policy, agent.collecting_policy.clone()
    for step, is_exploring in ((0, True), (99, True), (100, False)):
        agent.agent_steps = step
        agent.scheduled_values()
        copy.load_weights(agent.collecting_policy)
        for each in (policy, copy):
            own = each.choose_actor("sample")
            assert torch.equal(each.is_exploring, torch.tensor(is_exploring))  # type: ignore[arg-type]
            assert (own is each.actor) is not is_exploring
            assert each.choose_actor("mode") is each.actor
    assert agent.recurrent_policy.choose_actor("sample") is agent.actor_critic.actor


@pytest.mark.parametrize("action", [MULTI_DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_random_explorer_draws_uniform_actions(action: ActionSpec) -> None:
    agent = build("random", action)
    assert isinstance(agent.explorer, RandomExplorer)
    obs = {"position": torch.zeros(4000, 3)}
    actions = agent.collecting_policy(obs, None, "sample", torch.Generator().manual_seed(0)).action
    if action.kind == "discrete":
        expected = torch.tensor([1 / 3] * 3 + [1 / 2] * 2)
        assert torch.allclose(actions.mean(0), expected, atol=0.03)
    else:
        assert actions.abs().max() <= 1
        assert torch.allclose(actions.mean(0), torch.zeros(2), atol=0.05)
        assert torch.allclose(actions.var(0), torch.full((2,), 1 / 3), atol=0.03)


@pytest.mark.parametrize(
    ("explore", "penalty"), [("plan2explore", 0.0), ("model-loss", 0.0), ("random", 0.0), ("greedy", 10.0)]
)
def test_saved_explorer_continues_bit_for_bit(explore: str, penalty: float, tmp_path: Path) -> None:
    settings = tiny(training__explore=explore, behavior__disagreement_penalty=penalty, **SMALL)
    agent = agents.build_agent(settings, EnvSpec(VECTOR, DISCRETE), seed=1)
    batches = [tensors(random_steps(agent.spec, (6, 3), seed)) for seed in range(4)]
    for batch in batches[:2]:
        agent.train_step(batch)
    agents.save_agent(agent, tmp_path / "agent")
    loaded = agents.load_agent(tmp_path / "agent")
    for batch in batches[2:]:
        agent.train_step(batch)
        loaded.train_step(batch)
    expected = agents.snapshot(agent).tensors
    for group, part in agents.snapshot(loaded).tensors.items():
        assert part.keys() == expected[group].keys()
        assert all(torch.equal(value, expected[group][name]) for name, value in part.items()), group


def test_kernels_compute_the_same() -> None:
    plain, fast = build(), kernels.optimize(build())
    batch = tensors(random_steps(plain.spec, (6, 3)))
    expected, found = plain.train_step(batch), fast.train_step(batch)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("action", ["auto", "previous", "next", "none"])
def test_disagreement_penalty_is_the_distance_of_the_members_from_their_mean(action: str) -> None:
    agent = build("greedy", exploration__head__action=action, behavior__disagreement_penalty=10.0)
    ensemble, trajectory = agent.penalty_ensemble, random_trajectory(agent)
    assert ensemble is not None
    found = ensemble.penalty(trajectory.feat, trajectory.action)
    feat, actions = as_numpy(trajectory.feat, trajectory.action)
    follows = action in ("auto", "next")
    for t in range(5):
        for n in range(5):
            if follows and t == 0:  # a state from data, into which nothing imagined has led
                assert found[t, n] == 0
                continue
            source = t - 1 if follows else t
            inputs = np.concatenate([feat[source, n], *([] if action == "none" else [actions[t, n]])])
            members = np.array([numpy_mlp(head, inputs) for head in ensemble.members])
            distances = [np.sqrt(np.sum((member - members.mean(0)) ** 2)) for member in members]
            assert float(found[t, n]) == pytest.approx(np.mean(distances), rel=1e-4)


def test_disagreement_penalty_reduces_the_rewards_that_the_task_is_learned_from() -> None:
    """One update from the same weights: the returns differ by the weight times the penalty, and so do the metrics."""
    settings = {"behavior__return_lambda": 1.0, "behavior__horizon": 2}
    agents_by_weight = {
        weight: build("greedy", behavior__disagreement_penalty=weight, **settings) for weight in (1e-9, 10.0)
    }
    batch = tensors(random_steps(agents_by_weight[10.0].spec, (6, 3)))
    free, penalised = (agent.train_step(batch) for agent in agents_by_weight.values())
    difference = free["imagination/reward_mean"] - penalised["imagination/reward_mean"]
    assert float(difference) == pytest.approx(float(penalised["imagination/penalty_mean"]), rel=1e-3)
    assert float(difference) > 1e-3


def test_disagreement_penalty_of_zero_changes_nothing() -> None:
    assert build("greedy").heads is None


def test_plan2explore_and_the_penalty_share_an_ensemble() -> None:
    agent = build(behavior__disagreement_penalty=1.0)
    assert agent.penalty_ensemble is None
    metrics = agent.train_step(tensors(random_steps(agent.spec, (6, 3))))
    assert {"imagination/penalty_mean", "explore/imagination/reward_mean", "heads/disagreement"} <= metrics.keys()


def test_model_loss_has_no_ensemble_for_the_penalty() -> None:
    with pytest.raises(ConfigError, match=r"model-loss has no ensemble that could disagree"):
        build("model-loss", behavior__disagreement_penalty=1.0)

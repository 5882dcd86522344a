"""The agent as a whole: updates of all kinds of agents, invalid updates, counters, reproducibility."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from reverie.dreamer import Dreamer
from reverie.dreamer.actor_critic import ActorCritic, ActorCriticLoss
from reverie.dreamer.agent import NONFINITE
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from tests.helpers.agents import (
    ATARI_IMAGE,
    CONTINUOUS,
    DICT,
    DISCRETE,
    MULTI_DISCRETE,
    random_steps,
    tensors,
    tiny,
)

SMALL = EnvSpec({"image": ArraySpec((64, 64, 1), "uint8"), "speed": ArraySpec((2,), "float32")}, DISCRETE)
PRECISIONS = [torch.float32, torch.bfloat16]


def batch(spec: EnvSpec, shape: tuple[int, int] = (4, 3), seed: int = 0) -> dict[str, Tensor]:
    return tensors(random_steps(spec, shape, seed))


# --- every kind of agent ---------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[ActionSpec, dict[str, Any]]] = {
    "discrete": (DISCRETE, {}),
    "multi-discrete": (MULTI_DISCRETE, {}),
    "continuous": (CONTINUOUS, {}),
    "tanh-normal": (CONTINUOUS, {"behavior__actor__distribution": "tanh_normal"}),
    "both gradients": (CONTINUOUS, {"behavior__actor__gradient": "both"}),
    "straight-through": (MULTI_DISCRETE, {"behavior__actor__gradient": "both"}),
    "gaussian": (DISCRETE, {"world_model__rssm__latents": "gaussian"}),
    "binary": (CONTINUOUS, {"world_model__rssm__latents": "binary", "world_model__kl__objective": "split"}),
    "noisy": (MULTI_DISCRETE, {"behavior__actor__exploration_noise": 0.3}),
}


@pytest.mark.parametrize(("name", "dtype"), list(product(KINDS, PRECISIONS)), ids=str)
def test_train_step_of_each_kind_updates_every_parameter(name: str, dtype: torch.dtype) -> None:
    action, settings = KINDS[name]
    agent = Dreamer(tiny(**settings), EnvSpec(DICT, action), dtype=dtype)
    before = {key: value.clone() for key, value in agent.named_parameters()}
    for seed in range(2):
        metrics = agent.train_step(batch(agent.spec, seed=seed))
        assert all(value.isfinite().all() for value in metrics.values()), metrics
        assert all(value.shape == () and not value.requires_grad for value in metrics.values())
        assert metrics[NONFINITE] == 0
    after = dict(agent.named_parameters())
    assert all(value.isfinite().all() for value in after.values())
    assert not {key for key, value in after.items() if torch.equal(value, before[key])}
    assert agent.updates == 2


def test_train_step_in_bf16_has_nearly_the_losses_of_float32() -> None:
    losses = {}
    for dtype in PRECISIONS:
        agent = Dreamer(tiny(), EnvSpec(DICT, DISCRETE), seed=1, dtype=dtype)
        metrics = agent.train_step(batch(agent.spec), sample=False)
        losses[dtype] = {key: value.item() for key, value in metrics.items() if key.endswith("loss")}
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.05, abs=0.05)
    assert losses[torch.bfloat16] != losses[torch.float32]


# --- one update ------------------------------------------------------------------------------------------------------


def test_train_step_of_another_batch_size_starts_the_carried_state() -> None:
    agent = Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE))
    for size in (3, 2):
        agent.train_step(batch(agent.spec, (3, size)))
        assert agent.carry is not None and agent.carry.deter.shape[0] == size


def test_train_step_carries_the_last_posterior_states() -> None:
    """The second batch starts where the first one ended, unless an episode starts (SPEC 22)."""
    optimizers = [f"{part}__optimizer" for part in ("world_model", "behavior__actor", "behavior__critic")]
    frozen = {f"{optimizer}__{field}": 0.0 for optimizer in optimizers for field in ("lr", "weight_decay")}
    agent = Dreamer(tiny(**frozen), EnvSpec(ATARI_IMAGE, DISCRETE), seed=3)
    first, second = (batch(agent.spec, seed=seed) for seed in (0, 1))
    second["is_first"][0] = torch.tensor([True, False, False])
    for steps in (first, second):
        agent.train_step(steps, sample=False)
    whole = {key: torch.cat([first[key], second[key]]) for key in first}
    for carried, expected in zip(agent.carry, agent.world_model.infer(whole).posterior, strict=True):
        torch.testing.assert_close(carried, expected[-1])
        assert not carried.requires_grad


@pytest.mark.parametrize("imagine_last", [0, 1, 3, 4])
def test_train_step_imagines_from_the_last_steps_of_each_sequence(
    imagine_last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start states and their ends are those of the last steps; all losses are those of rollouts from these states."""
    agent = Dreamer(tiny(behavior__imagine_last=imagine_last), EnvSpec(ATARI_IMAGE, DISCRETE), seed=3)
    steps = batch(agent.spec, (4, 3))
    num_starts = 3 * (imagine_last or 4)
    posterior = agent.world_model.infer(steps).posterior
    seen = []

    def record(model: Any, start: Any, is_terminal: Tensor, *rest: Any, **more: Any) -> ActorCriticLoss:
        seen.append((start, is_terminal))
        return loss(model, start, is_terminal, *rest, **more)

    loss = agent.actor_critic.loss
    monkeypatch.setattr(agent.actor_critic, "loss", record)
    agent.train_step(steps, sample=False)
    ((start, is_terminal),) = seen
    assert torch.equal(is_terminal, steps["is_terminal"].flatten()[-num_starts:])
    for part, expected in zip(start, posterior, strict=True):
        torch.testing.assert_close(part, expected.flatten(0, 1)[-num_starts:])


def test_train_world_model_is_the_first_half_of_a_train_step() -> None:
    """The same weights, carried state and metrics as after a whole update; nothing else has changed or was counted."""
    both, alone = (Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE), seed=3) for _ in range(2))
    before = {key: value.clone() for key, value in alone.actor_critic.state_dict().items()}
    whole, half = both.train_step(batch(both.spec)), alone.train_world_model(batch(alone.spec))
    assert half.keys() == {name for name in whole if name.startswith("model/")} | {NONFINITE}
    assert all(torch.equal(value, whole[name]) for name, value in half.items())
    learned = alone.world_model.state_dict()
    assert all(torch.equal(value, learned[key]) for key, value in both.world_model.state_dict().items())
    assert both.carry is not None and alone.carry is not None
    assert torch.equal(both.carry.deter, alone.carry.deter)
    assert all(torch.equal(value, before[key]) for key, value in alone.actor_critic.state_dict().items())
    optimizers = (alone.model_optimizer, alone.actor_optimizer, alone.critic_optimizer)
    assert (alone.updates, *(int(optimizer.num_steps) for optimizer in optimizers)) == (1, 1, 0, 0)


@pytest.mark.parametrize("pretraining", [0, 3])
def test_train_step_after_pretraining_copies_the_target_critic_at_updates_1_and_4(pretraining: int) -> None:
    """Updates of the critic count, not those of the world model alone."""
    config = tiny(behavior__critic__target_update_interval=3, behavior__critic__target_tau=0.5)
    agent = Dreamer(config, EnvSpec(ATARI_IMAGE, DISCRETE), seed=3)
    steps = batch(agent.spec, (2, 1))
    for _ in range(pretraining):
        agent.train_world_model(steps)
    critic, target = (agent.actor_critic.critic.mlp[-1].weight, agent.actor_critic.target_critic.mlp[-1].weight)
    agent.train_step(steps)
    assert torch.equal(target, critic)
    first = target.clone()
    for _ in (2, 3):
        agent.train_step(steps)
        assert torch.equal(target, first)
    agent.train_step(steps)
    torch.testing.assert_close(target, (first + critic) / 2)


def test_scheduled_values_are_those_of_the_agent_step() -> None:
    """Frames are counted in agent steps; reading the values changes nothing."""
    text = "linear(0.5,0.25,80 frames)"
    paths = [f"world_model__{name}" for name in ("kl__scale", "kl__free_nats", "optimizer__lr")]
    paths += [f"behavior__actor__{name}" for name in ("entropy", "dynamics_weight", "reinforce_weight")]
    paths += ["behavior__actor__optimizer__lr", "behavior__critic__optimizer__lr"]
    config = tiny(**dict.fromkeys(paths, text), behavior__actor__gradient="both", env__action_repeat=4)
    agent = Dreamer(config, EnvSpec(ATARI_IMAGE, DISCRETE))
    assert agent.config == config
    names = {"kl_scale", "free_nats", "entropy_weight", "dynamics_weight", "reinforce_weight"}
    names |= {"model_lr", "actor_lr", "critic_lr"}
    for step, value in ((10, 0.375), (10, 0.375), (0, 0.5), (1000, 0.25)):
        agent.agent_steps = step
        assert agent.scheduled_values() == pytest.approx(dict.fromkeys(names, value))


# --- invalid updates -------------------------------------------------------------------------------------------------


def state_of(agent: Dreamer) -> dict[str, Tensor]:
    """Return weights, statistics, moments and the carried state by name, without the target critic."""
    state = {name: value for name, value in agent.state_dict().items() if "target_" not in name}
    state |= {f"carry.{name}": value for name, value in agent.carry._asdict().items()}
    for name in ("model", "actor", "critic"):
        moments = getattr(agent, f"{name}_optimizer").state_dict()
        state |= {f"{name}_optimizer.{key}": value for key, value in moments.items() if key != "num_steps"}
    return {name: value.clone() for name, value in state.items()}


def changed_parts(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    names = [name for name, value in before.items() if not torch.equal(value, after[name])]
    parts = {
        "model": ("world_model.", "model_optimizer.", "carry."),
        "actor": ("actor_critic.actor.", "actor_optimizer."),
        "critic": ("actor_critic.critic.", "critic_optimizer."),
        "reward norm": ("actor_critic.reward_norm.",),
    }
    return {part for part, prefixes in parts.items() if any(name.startswith(prefixes) for name in names)}


@pytest.mark.parametrize("key", ["speed", "reward"])
@pytest.mark.parametrize("latents", ["categorical", "gaussian"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_train_step_non_finite_batch_changes_nothing_and_the_next_one_everything(
    latents: str, key: str, value: float
) -> None:
    config = tiny(
        behavior__reward_norm__momentum=0.9,
        world_model__rssm__latents=latents,
        world_model__reward_transform="identity",
    )
    agent = Dreamer(config, SMALL, seed=1)
    agent.train_step(batch(SMALL))
    before = state_of(agent)
    steps = batch(SMALL, seed=1)
    steps[key][2, 0] = value
    assert agent.train_step(steps)[NONFINITE] == 1
    assert agent.updates == 2
    assert not changed_parts(before, state_of(agent))
    metrics = agent.train_step(batch(SMALL, seed=2))
    assert metrics[NONFINITE] == 0 and all(value.isfinite() for value in metrics.values())
    assert changed_parts(before, state_of(agent)) == {"model", "actor", "critic", "reward norm"}


def test_update_actor_critic_invalid_changes_nothing_though_all_is_finite() -> None:
    """The world model's validity is an argument, not a NaN in the states."""
    agent = Dreamer(tiny(behavior__reward_norm__momentum=0.9), SMALL, seed=1)
    agent.train_step(batch(SMALL))
    before = state_of(agent)
    start = agent.carry
    terminal = torch.zeros(3, dtype=torch.bool)
    for is_valid, expected in ((False, set()), (True, {"actor", "critic", "reward norm"})):
        metrics = agent.update_actor_critic(start, terminal, torch.tensor(is_valid), agent.scheduled_values())
        assert all(value.isfinite() for value in metrics.values())
        assert metrics[NONFINITE] == (not is_valid)
        assert changed_parts(before, state_of(agent)) == expected


def make_infinite(monkeypatch: pytest.MonkeyPatch, *losses: str) -> None:
    """Make these losses of actor and critic infinite."""
    real = ActorCritic.loss

    def loss(*args: Any, **kwargs: Any) -> ActorCriticLoss:
        found = real(*args, **kwargs)
        return found._replace(**{name: getattr(found, name) * torch.inf for name in losses})

    monkeypatch.setattr(ActorCritic, "loss", loss)


@pytest.mark.parametrize(("loss", "others"), [("actor", {"model", "critic"}), ("critic", {"model", "actor"})])
def test_train_step_non_finite_loss_of_one_part_updates_the_others(
    monkeypatch: pytest.MonkeyPatch, loss: str, others: set[str]
) -> None:
    agent = Dreamer(tiny(), SMALL, seed=1)
    agent.train_step(batch(SMALL))
    before = state_of(agent)
    make_infinite(monkeypatch, loss)
    assert agent.train_step(batch(SMALL))[NONFINITE] == 1
    assert changed_parts(before, state_of(agent)) == others


def test_train_world_model_non_finite_batch_changes_nothing() -> None:
    agent = Dreamer(tiny(), SMALL, seed=1)
    steps = batch(SMALL)
    assert agent.train_world_model(steps)[NONFINITE] == 0
    before = state_of(agent)
    steps["speed"][0, 0, 0] = torch.inf
    assert agent.train_world_model(steps)[NONFINITE] == 1
    assert not changed_parts(before, state_of(agent))


# --- reproducibility -------------------------------------------------------------------------------------------------


def trained_weights(seed: int) -> dict[str, Tensor]:
    """Return the weights after alternating decisions and updates, and the next action."""
    agent = Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE), seed=seed)
    observation = tensors(random_steps(agent.spec, (2,)))
    for step in range(3):
        agent.act(observation)
        agent.train_step(batch(agent.spec, seed=step))
    return {**agent.state_dict(), "next action": agent.act(observation)[0]}


def test_dreamer_same_seed_gives_the_same_weights() -> None:
    first, again, other = (trained_weights(seed) for seed in (5, 5, 6))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    weights = [key for key in first if key.endswith("weight")]
    assert not any(torch.equal(first[key], other[key]) for key in weights)


def test_dreamer_without_seed_takes_that_of_the_configuration() -> None:
    config = tiny(training__seed=5)
    given, default = (Dreamer(config, EnvSpec(ATARI_IMAGE, DISCRETE), seed) for seed in (5, None))
    assert all(torch.equal(value, default.state_dict()[key]) for key, value in given.state_dict().items())


def test_train_step_samples_from_the_generator_and_modes_draw_nothing() -> None:
    spec = EnvSpec(ATARI_IMAGE, DISCRETE)
    one, two = (Dreamer(tiny(), spec, seed=0) for _ in range(2))
    two.generator.manual_seed(1234)
    steps = batch(spec)
    sampled = [agent.train_step(steps)["model/kl"].item() for agent in (one, two)]
    assert sampled[0] != sampled[1]
    one, two = (Dreamer(tiny(), spec, seed=0) for _ in range(2))
    state = two.generator.manual_seed(1234).get_state()
    modes = [agent.train_step(steps, sample=False)["model/kl"].item() for agent in (one, two)]
    assert modes[0] == modes[1]
    assert torch.equal(two.generator.get_state(), state)

"""Decisions: modes and samples, resets, clones, exploration."""

import pytest
import torch

from reverie.dreamer import ActState, Dreamer, RecurrentPolicy
from reverie.dreamer.recurrent_policy import explore
from reverie.specs import ActionSpec, EnvSpec
from tests.helpers.agents import CONTINUOUS, DICT, DISCRETE, MULTI_DISCRETE, random_steps, tensors, tiny

ACTIONS = {"discrete": DISCRETE, "multi": MULTI_DISCRETE, "continuous": CONTINUOUS}
PRECISIONS = [torch.float32, torch.bfloat16]


def make(name: str = "discrete", dtype: torch.dtype = torch.float32, **settings: object) -> Dreamer:
    """Return an agent after an update."""
    config = tiny(**{"world_model__normalize_vectors": True, **settings})
    agent = Dreamer(config, EnvSpec(DICT, ACTIONS[name]), dtype=dtype)
    agent.train_step(tensors(random_steps(agent.spec, (4, 3))))
    return agent


def observations(agent: Dreamer, seed: int = 0, num_envs: int = 3) -> dict[str, torch.Tensor]:
    steps = tensors(random_steps(agent.spec, (num_envs,), seed))
    return {key: value for key, value in steps.items() if key in (*DICT, "is_first")}


def decide(
    agent: Dreamer, policy: RecurrentPolicy, seed: int = 7, mode: str = "sample", count: int = 4
) -> list[ActState]:
    """Return the states of some decisions in a row."""
    generator, state, states = torch.Generator().manual_seed(seed), None, []
    for step in range(count):
        state = policy(observations(agent, step), state, mode, generator)
        states.append(state)
    return states


def equal(left: ActState, right: ActState) -> bool:
    parts = zip((*left.latent, left.action), (*right.latent, right.action), strict=True)
    return all(torch.equal(one, other) for one, other in parts)


def assert_valid(action: torch.Tensor, spec: ActionSpec) -> None:
    assert action.dtype == torch.float32 and action.shape[-1] == spec.size
    if spec.kind == "continuous":
        assert (action.abs() <= 1).all()
        return
    for part in action.split(spec.sizes, -1):
        # One-hot up to the rounding of the straight-through gradient.
        torch.testing.assert_close(part.sum(-1), torch.ones(len(part)))
        torch.testing.assert_close(part.max(-1).values, torch.ones(len(part)))


# --- modes and samples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", ACTIONS)
def test_policy_actions_of_both_modes_are_valid(name: str, dtype: torch.dtype) -> None:
    agent = make(name, dtype)
    for mode in ("sample", "mode"):
        for state in decide(agent, agent.recurrent_policy, mode=mode):
            assert_valid(state.action, ACTIONS[name])
            assert not state.action.requires_grad
            assert all(part.dtype == torch.float32 for part in state.latent)


@pytest.mark.parametrize("name", ACTIONS)
def test_policy_same_generator_gives_the_same_decisions(name: str) -> None:
    agent = make(name)
    first, same, other = (decide(agent, agent.recurrent_policy, seed) for seed in (7, 7, 8))
    assert all(map(equal, first, same))
    assert not any(map(equal, first, other))


@pytest.mark.parametrize("name", ACTIONS)
def test_policy_mode_is_the_actors_mode_in_a_sampled_state(name: str) -> None:
    agent = make(name)
    latents = set()
    for seed in range(8):
        state = agent.recurrent_policy(observations(agent), None, "mode", torch.Generator().manual_seed(seed))
        with torch.no_grad():
            mode = agent.actor_critic.actor(state.latent.feat).mode()
        torch.testing.assert_close(state.action, mode)
        latents.add(tuple(state.latent.stoch.round().flatten().tolist()))
    assert len(latents) > 1


def test_policy_without_generator_takes_all_modes() -> None:
    agent = make("continuous")
    one, other = (agent.recurrent_policy(observations(agent)) for _ in range(2))
    assert equal(one, other)
    stats = one.latent.stats
    torch.testing.assert_close(one.latent.stoch, agent.world_model.rssm.latents.sample(stats, None))


@pytest.mark.parametrize("mode", ["sample", "mode"])
def test_act_is_the_policy_with_the_agents_generator(mode: str) -> None:
    agent, other = make(), make()
    action, state = agent.act(observations(agent), None, mode)
    expected = other.recurrent_policy(observations(other), None, mode, other.act_generator)
    assert torch.equal(action, state.action) and equal(state, expected)
    assert torch.equal(agent.act_generator.get_state(), other.act_generator.get_state())


def test_act_with_a_generator_leaves_the_agents_own() -> None:
    agent = make()
    before = agent.act_generator.get_state(), agent.generator.get_state()
    actions = [agent.act(observations(agent), generator=torch.Generator().manual_seed(3))[1] for _ in range(2)]
    assert equal(*actions)
    assert torch.equal(agent.act_generator.get_state(), before[0])
    agent.act(observations(agent))
    assert not torch.equal(agent.act_generator.get_state(), before[0])
    assert torch.equal(agent.generator.get_state(), before[1])  # that of training


# --- resets ----------------------------------------------------------------------------------------------------------


def test_policy_is_first_resets_its_row_alone() -> None:
    """A row that starts an episode is decided as without a state; the others keep theirs."""
    agent = make("continuous")
    observation = observations(agent)
    observation["is_first"] = torch.tensor([True, False, False])
    state = None
    for seed in range(2):  # h is zero right after a reset, not later
        state = agent.recurrent_policy(
            observations(agent, seed) | {"is_first": torch.zeros(3, dtype=torch.bool)}, state
        )
    later, fresh = agent.recurrent_policy(observation, state), agent.recurrent_policy(observation, None)
    torch.testing.assert_close(later.action[0], fresh.action[0])
    torch.testing.assert_close(later.latent.deter[0], fresh.latent.deter[0])
    assert not (later.latent.deter[1:] == fresh.latent.deter[1:]).all(-1).any()
    unmarked = agent.recurrent_policy({key: value for key, value in observation.items() if key != "is_first"}, state)
    assert not torch.equal(unmarked.latent.deter[0], fresh.latent.deter[0])


def test_policy_state_of_none_is_initial() -> None:
    agent = make()
    given, none = (
        agent.recurrent_policy(observations(agent), state) for state in (agent.recurrent_policy.initial(3), None)
    )
    assert equal(given, none)
    assert not any(
        part.any() for part in (*agent.recurrent_policy.initial(3).latent, agent.recurrent_policy.initial(3).action)
    )


def test_policy_reads_the_action_that_it_took() -> None:
    agent = make()
    state = agent.recurrent_policy(observations(agent) | {"is_first": torch.zeros(3, dtype=torch.bool)})
    step = observations(agent, 1) | {"is_first": torch.zeros(3, dtype=torch.bool)}
    changed = state._replace(action=state.action.roll(1, -1))
    assert not torch.equal(
        agent.recurrent_policy(step, state).latent.deter, agent.recurrent_policy(step, changed).latent.deter
    )


# --- clones ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_clone_decides_as_its_original(name: str, dtype: torch.dtype, layer_norm: bool) -> None:
    norms = {f"world_model__{part}__layer_norm": layer_norm for part in ("rssm", "encoder")}
    agent = make(name, dtype, **norms)
    assert all(map(equal, decide(agent, agent.recurrent_policy), decide(agent, agent.recurrent_policy.clone())))


def test_clone_changes_by_load_weights_only() -> None:
    """Statistics of vectors included; its tensors keep their memory."""
    agent = make()
    clone = agent.recurrent_policy.clone()
    before, memory = decide(agent, clone), {key: value.data_ptr() for key, value in clone.state_dict().items()}
    agent.train_step(tensors(random_steps(agent.spec, (4, 3), 1)))
    assert all(map(equal, before, decide(agent, clone)))
    clone.load_weights(agent.recurrent_policy)
    now = decide(agent, clone)
    assert all(map(equal, now, decide(agent, agent.recurrent_policy)))
    assert not torch.equal(now[-1].latent.stats, before[-1].latent.stats)
    assert {key: value.data_ptr() for key, value in clone.state_dict().items()} == memory
    mean = "preprocess.vector_norm.mean"
    assert torch.equal(clone.state_dict()[mean], agent.recurrent_policy.state_dict()[mean])


def test_clone_has_the_parts_of_a_decision_and_no_gradients() -> None:
    agent = make()
    clone = agent.recurrent_policy.clone()
    parts = {name.split(".")[0] for name in clone.state_dict()}
    assert parts == {"preprocess", "encoder", "rssm", "actor"}
    assert not any(parameter.requires_grad for parameter in clone.parameters())
    own = {value.data_ptr() for value in agent.state_dict().values()}
    assert not own & {value.data_ptr() for value in clone.state_dict().values()}
    assert all(parameter.requires_grad for parameter in agent.recurrent_policy.parameters())
    # The agent registers no part twice.
    assert not [name for name in agent.state_dict() if "policy" in name]


# --- exploration -----------------------------------------------------------------------------------------------------


def test_explore_amount_zero_keeps_actions_and_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    before, action = generator.get_state(), torch.tensor([[0.3, -0.4]])
    assert torch.equal(explore(action, CONTINUOUS, 0.0, generator), action)
    assert torch.equal(generator.get_state(), before)


def test_explore_continuous_actions_have_normal_noise_within_the_bounds() -> None:
    action = torch.zeros(20_000, 2)
    found = explore(action, CONTINUOUS, 0.3, torch.Generator().manual_seed(0))
    assert found.abs().max() <= 1
    assert found.std().item() == pytest.approx(0.3, rel=0.02) and abs(found.mean().item()) < 0.01


def test_explore_discrete_actions_choose_each_part_uniformly_by_its_amount() -> None:
    action = torch.cat([torch.eye(3)[[1]], torch.eye(2)[[0]]], -1).expand(20_000, -1)
    found = explore(action, MULTI_DISCRETE, 0.3, torch.Generator().manual_seed(0)).mean(0)
    expected = torch.tensor([0.1, 0.8, 0.1, 0.85, 0.15])
    torch.testing.assert_close(found, expected, rtol=0, atol=0.015)


@pytest.mark.parametrize("name", ["multi", "continuous"])
def test_policy_exploration_noise_is_added_to_samples_only(name: str) -> None:
    noisy = make(name, behavior__actor__exploration_noise=1.0)
    plain = make(name)
    plain.load_state_dict(noisy.state_dict())
    modes = [decide(agent, agent.recurrent_policy, mode="mode", count=1)[0].action for agent in (noisy, plain)]
    assert torch.equal(*modes)
    samples = [decide(agent, agent.recurrent_policy, count=1)[0].action for agent in (noisy, plain)]
    assert not torch.equal(*samples)
    assert_valid(samples[0], ACTIONS[name])

"""`AgentPolicy`: NumPy observations in, NumPy actions out."""

import numpy as np
import pytest
import torch

from reverie.acting import AgentPolicy
from reverie.dreamer import Dreamer
from reverie.specs import EnvSpec
from tests.helpers.agents import CONTINUOUS, DICT, DISCRETE, Arrays, random_steps, tensors, tiny

SPEC = EnvSpec(DICT, DISCRETE)


def observation(count: int = 2, seed: int = 0) -> Arrays:
    """Return a valid observation: image, position, wrist and speed, `is_first`, and keys that are not read."""
    steps = random_steps(SPEC, (count,), seed)
    del steps["action"]
    return steps


def without_is_first(count: int) -> Arrays:
    return {key: value for key, value in observation(count).items() if key != "is_first"}


@pytest.mark.parametrize("mode", ["sample", "mode"])
def test_agent_policy_is_the_agents_act_with_its_state(mode: str) -> None:
    agents = [Dreamer(tiny(), SPEC, seed=1) for _ in range(2)]
    policy, state = AgentPolicy(agents[0], mode), None
    for seed in range(3):
        found = policy(observation(seed=seed))
        read = {key: value for key, value in tensors(observation(seed=seed)).items() if key in (*DICT, "is_first")}
        expected, state = agents[1].act(read, state, mode)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected.numpy())


def test_agent_policy_with_a_generator_leaves_the_agents_own() -> None:
    agent = Dreamer(tiny(), SPEC)
    before = agent.act_generator.get_state()
    actions = [AgentPolicy(agent, generator=torch.Generator().manual_seed(3))(observation(40)) for _ in range(2)]
    np.testing.assert_array_equal(*actions)
    assert torch.equal(agent.act_generator.get_state(), before)


def test_agent_policy_reset_forgets_the_state() -> None:
    policy = AgentPolicy(Dreamer(tiny(), EnvSpec(DICT, CONTINUOUS)), "mode", torch.Generator().manual_seed(0))
    first = policy(without_is_first(2))
    assert policy.state is not None
    deter = policy.state.latent.deter
    policy(without_is_first(2))
    assert not torch.equal(policy.state.latent.deter, deter)
    policy.reset()
    assert policy.state is None
    policy(without_is_first(3))  # other environments
    assert policy.state.action.shape == (3, 2) and first.shape == (2, 2)


def test_agent_policy_of_a_clone_keeps_its_weights() -> None:
    agent = Dreamer(tiny(), EnvSpec(DICT, CONTINUOUS))
    clone = AgentPolicy(agent, "mode", torch.Generator().manual_seed(0), policy=agent.recurrent_policy.clone())
    before = clone(observation())
    with torch.no_grad():
        agent.actor_critic.actor.head.bias.add_(1.0)
    clone.reset()
    clone._generator.manual_seed(0)
    np.testing.assert_array_equal(clone(observation()), before)


def test_agent_policy_tensors_give_the_actions_of_arrays() -> None:
    actions = [AgentPolicy(Dreamer(tiny(), SPEC, seed=1))(obs) for obs in (observation(), tensors(observation()))]
    np.testing.assert_array_equal(*actions)


def test_agent_policy_key_that_no_network_reads_may_be_missing() -> None:
    policy = AgentPolicy(Dreamer(tiny(world_model__encoder__keys=("image",)), SPEC))
    assert policy({"image": observation()["image"]}).shape == (2, 4)

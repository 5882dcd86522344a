"""`AgentPolicy`: NumPy observations in, NumPy actions out, and observations that are refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from reverie.acting import AgentPolicy, check_observation
from reverie.dreamer import Dreamer
from reverie.errors import ObservationError, ReverieError
from reverie.specs import EnvSpec
from tests.helpers.agents import CONTINUOUS, DICT, DISCRETE, Arrays, random_steps, tensors, tiny

SPEC = EnvSpec(DICT, DISCRETE)


def observation(count: int = 2, seed: int = 0) -> Arrays:
    """Return a valid observation: image, position, wrist and speed, `is_first`, and keys that are not read."""
    steps = random_steps(SPEC, (count,), seed)
    del steps["action"]
    return steps


def changed(**values: Any) -> Callable[[Arrays], Any]:
    return lambda valid: {key: value for key, value in {**valid, **values}.items() if value is not None}


# --- decisions -------------------------------------------------------------------------------------------------------


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
    without = changed(is_first=None)
    first = policy(without(observation()))
    assert policy.state is not None
    deter = policy.state.latent.deter
    policy(without(observation()))
    assert not torch.equal(policy.state.latent.deter, deter)
    policy.reset()
    assert policy.state is None
    policy(without(observation(3)))  # other environments
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


# --- refusals --------------------------------------------------------------------------------------------------------

FLOATS = np.zeros((2, 64, 64, 1), np.float32)
REFUSED: dict[str, tuple[Callable[[Arrays], Any], str]] = {
    "float image": (changed(image=FLOATS), "'image' is float32, but the agent reads uint8. Give pixels from 0 to 255"),
    "float tensor": (changed(image=torch.zeros(2, 64, 64, 1)), "'image' is float32, but the agent reads uint8"),
    "bytes for a vector": (changed(position=np.zeros((2, 3), np.uint8)), "'position' is uint8, but .* reads float"),
    "integers for a vector": (changed(position=np.zeros((2, 3), int)), "'position' is int64, but .* reads float"),
    "larger image": (
        changed(image=np.zeros((2, 66, 70, 1), np.uint8)),
        r"'image' has shape \(2, 66, 70, 1\), but \(N, 64, 64, 1\) is needed. Convert it as reverie.make_env does",
    ),
    "another vector": (changed(speed=np.zeros((2, 3), np.float32)), r"'speed' .*\(2, 3\), but \(N, 2\) is needed"),
    "unbatched": (
        lambda valid: {key: value[0] for key, value in valid.items()},
        r"\(64, 64, 1\). Observations need a leading batch axis, \(N, 64, 64, 1\). Add it with value\[None\]",
    ),
    "unbatched vector": (changed(speed=np.zeros(2, np.float32)), "'speed' .* need a leading batch axis"),
    "of different batches": (changed(speed=torch.zeros(3, 2)), "'speed' has 3 environments, but 'image' has 2"),
    "missing": (changed(speed=None), "has no 'speed'. The agent reads image, position, wrist, speed"),
    "NaN": (changed(speed=np.full((2, 2), np.nan, np.float32)), "'speed' has NaN or infinity"),
    "infinite tensor": (changed(speed=torch.full((2, 2), torch.inf)), "'speed' has NaN or infinity"),
    "too large for float32": (changed(speed=np.full((2, 2), 1e300)), "'speed' has NaN or infinity"),
    "is_first of floats": (changed(is_first=np.zeros(2)), "'is_first' is float64, but the agent reads bool"),
    "is_first unbatched": (changed(is_first=np.bool_(True)), r"'is_first' .* leading batch axis, \(N,\)"),
    "a list": (changed(speed=[[0.0, 0.0]] * 2), "'speed' is a list. Give a NumPy array or a tensor"),
    "an array": (lambda valid: valid["image"], r"is a ndarray. The agent reads a dictionary of image, position"),
    "result of reset": (lambda valid: (valid, {}), "is a tuple. The agent reads a dictionary of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_check_observation_that_does_not_fit_is_refused_in_a_sentence(name: str) -> None:
    change, words = REFUSED[name]
    with pytest.raises(ObservationError, match=words) as refused:
        check_observation(change(observation()), DICT, list(DICT))
    assert isinstance(refused.value, ReverieError) and isinstance(refused.value, ValueError)
    text = str(refused.value)
    assert text.endswith(".") and "\n" not in text and len(text) <= 160


@pytest.mark.parametrize(
    "change",
    [
        changed(),
        changed(is_first=None, is_last=None, is_terminal=None, reward=None),
        changed(speed=np.zeros((2, 2))),
        changed(speed=torch.zeros(2, 2, dtype=torch.float16)),
        changed(unknown="not read", label=np.zeros(3)),
        tensors,
        lambda valid: {key: value[:, ::-1] if value.ndim > 1 else value for key, value in valid.items()},
    ],
)
def test_agent_policy_valid_observation_is_accepted(change: Callable[[Arrays], Any]) -> None:
    assert AgentPolicy(Dreamer(tiny(), SPEC))(change(observation())).shape == (2, 4)


def test_agent_policy_observation_of_other_environments_is_refused() -> None:
    policy = AgentPolicy(Dreamer(tiny(), SPEC))
    policy(observation(2))
    with pytest.raises(ObservationError, match="leading batch axis"):
        policy({key: value[0] for key, value in observation().items()})
    with pytest.raises(ObservationError, match=r"has 3 environments, but the policy's state has 2\. Call reset\(\)"):
        policy(observation(3))


def test_agent_policy_key_that_no_network_reads_may_be_missing() -> None:
    policy = AgentPolicy(Dreamer(tiny(world_model__encoder__keys=("image",)), SPEC))
    assert policy({"image": observation()["image"]}).shape == (2, 4)
    with pytest.raises(ObservationError, match=r"has no 'image'\. The agent reads image\."):
        policy({"speed": observation()["speed"]})

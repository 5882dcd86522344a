"""`Policy`: what an environment returns goes in, what its step takes comes out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import reverie
from reverie.acting import AgentPolicy
from reverie.agents import Agent, build_agent, load, save_agent, snapshot
from reverie.config import preset
from reverie.envs import as_factory, make_env
from reverie.errors import CheckpointError, ObservationError, ReverieError
from reverie.runs.checkpoint import Snapshot, write_checkpoint
from reverie.specs import EnvSpec
from tests.helpers.agents import DICT, DISCRETE, TINY
from tests.helpers.environments import Everything

BOX = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))
ACTIONS = {
    "discrete": spaces.Discrete(3, start=1),
    "multi-discrete": spaces.MultiDiscrete([2, 3, 4]),
    "box": BOX,
    "box of two dimensions": spaces.Box(-3, 5, (2, 2), np.float64),
    "dict": spaces.Dict(a=spaces.Discrete(3, start=1), b=spaces.Tuple((spaces.MultiBinary(2),))),
    "tuple": spaces.Tuple((BOX, spaces.Dict(gear=spaces.Box(-99, 99, (1,), np.int64)))),
}
OBSERVATIONS = {
    "image": spaces.Box(0, 255, (48, 80, 3), np.uint8),
    "vector": spaces.Box(-10, 10, (4,)),
    "discrete": spaces.Discrete(5),
    "multi-discrete": spaces.MultiDiscrete([3, 4]),
    "multi-binary": spaces.MultiBinary(4),
    "dict": Everything().observation_space,
    "tuple": spaces.Tuple((spaces.Discrete(5), spaces.Dict(a=spaces.Tuple((spaces.Text(3), spaces.MultiBinary(2)))))),
}


class Spaces(gymnasium.Env[Any, Any]):
    """Return random observations of a space, and take the actions of another one."""

    def __init__(self, observation: spaces.Space[Any], action: spaces.Space[Any], length: int = 3) -> None:
        self.observation_space, self.action_space, self._length = observation, action, length
        observation.seed(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._time = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self._time += 1
        return self.observation_space.sample(), 1.0, False, self._time == self._length, {}


def make_agent(env: Any, name: str = "test", **settings: Any) -> Agent:
    label, factory = as_factory(env)
    config = preset("debug").for_env(label).override(**{**TINY, **settings})
    with make_env(config.env, 0, factory) as made:
        return build_agent(config, made.spec)


def test_policy_is_made_by_a_loaded_agent(tmp_path: Path) -> None:
    save_agent(make_agent("CartPole-v1"), tmp_path / "agent")
    policy = reverie.load(tmp_path / "agent").policy()
    env = gymnasium.make("CartPole-v1")
    assert (policy.observation_space, policy.action_space) == (env.observation_space, env.action_space)
    obs, _ = env.reset(seed=0)
    for _ in range(8):
        action = policy(obs)
        assert type(action) is int
        obs, *_ = env.step(action)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_policy_one_observation_gives_an_action_of_the_environment(observation: str, action: str) -> None:
    env = Spaces(OBSERVATIONS[observation], ACTIONS[action])
    policy = make_agent(lambda: Spaces(OBSERVATIONS[observation], ACTIONS[action])).policy(deterministic=False)
    obs, _ = env.reset()
    for _ in range(3):  # the environment itself refuses actions that are not in its space
        obs, *_ = env.step(policy(obs))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_policy_batch_gives_the_actions_of_a_vector_environment(observation: str, action: str) -> None:
    def make() -> Spaces:
        return Spaces(OBSERVATIONS[observation], ACTIONS[action])

    envs = gymnasium.vector.SyncVectorEnv([make] * 3)
    policy = make_agent(make).policy(deterministic=False)
    obs, _ = envs.reset()
    for _ in range(3):
        actions = policy(obs)
        assert envs.action_space.contains(actions)
        obs, *_ = envs.step(actions)


def test_policy_on_an_environment_acts_as_on_the_steps_of_make_env() -> None:
    """Same observations, same samples: the adapted steps that training sees give the same episodes."""
    agent = make_agent("Pendulum-v1", **{"env.time_limit": 7})
    env, policy, expected = gymnasium.make("Pendulum-v1", max_episode_steps=7), agent.policy(seed=3), []
    with make_env(agent.config.env, seed=0) as steps:
        act = AgentPolicy(agent, "mode", torch.Generator().manual_seed(3))
        step = steps.reset(np.array([True]))
        for _ in range(20):
            if step["is_last"][0]:
                step = steps.reset(np.array([True]))
            step = steps.step(act(step))
            expected.append(step["reward"][0])
    found: list[float] = []
    obs, _ = env.reset(seed=int(np.random.SeedSequence((0, 0)).generate_state(1)[0]))
    while len(found) < 20:
        obs, reward, terminated, truncated, _ = env.step(policy(obs))
        found.append(float(reward))
        if terminated or truncated:
            obs, _ = env.reset()
            policy.reset()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_policy_reset_of_a_mask_resets_those_environments_alone() -> None:
    agent = make_agent("Pendulum-v1")
    policy, expected = agent.policy(seed=3), AgentPolicy(agent, "mode", torch.Generator().manual_seed(3))
    generator = np.random.default_rng(0)
    for number in range(4):
        obs = generator.normal(size=(3, 3)).astype(np.float32)
        mask = np.array([number == 0, number in (0, 2), number == 0])
        if number:
            policy.reset(mask)
        rows = expected({"vector": obs, "is_first": mask})
        np.testing.assert_allclose(policy(obs), 2 * rows, rtol=1e-6)  # torques of -2 to 2


def test_policy_deterministic_of_the_same_seed_repeats_itself() -> None:
    agent = make_agent("Pendulum-v1")
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)

    def act(**settings: Any) -> list[float]:
        policy = agent.policy(**settings)
        return [float(policy(obs)[0]) for obs in observations]

    before = agent.act_generator.get_state()
    assert act() == act() == act(seed=agent.config.training.seed)
    assert act() != act(seed=1) and act() != act(deterministic=False) != act(deterministic=False, seed=1)
    assert torch.equal(agent.act_generator.get_state(), before)


# --- Atari -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grayscale", [True, False])
def test_policy_atari_takes_the_screens_of_gymnasium(grayscale: bool) -> None:
    settings = {"env.grayscale": grayscale, "env.noop_max": 0, "env.sticky_actions": 0.0}
    agent = make_agent("ALE/Pong-v5", **settings)
    env = gymnasium.make("ALE/Pong-v5", repeat_action_probability=0.0)
    assert env.action_space == agent.policy().action_space
    first, _ = env.reset(seed=0)
    with make_env(agent.config.env, seed=0) as ours:
        image = ours.reset(np.array([True]))["image"][0]  # the first image is not pooled, so it is the same screen
    obs, others = (agent.policy() for _ in range(2))
    assert obs(first) == others(image) and torch.equal(
        obs._policy.state.latent.deter, others._policy.state.latent.deter
    )
    batch = agent.policy()(np.stack([first, first]))
    assert batch.shape == (2,) and batch.dtype == np.int64


def test_policy_atari_other_shapes_are_refused() -> None:
    policy = make_agent("ALE/Pong-v5").policy()
    for shape in [(84, 84), (210, 160), (4, 84, 84), (128,), (210, 161, 3)]:
        with pytest.raises(ObservationError, match=r"trained on \(64, 64, 1\)"):
            policy(np.zeros(shape, np.uint8))


# --- refusals --------------------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], Any]
REFUSED: dict[str, tuple[Change, str]] = {
    "missing key": (
        lambda obs: {"camera": obs["camera"]},
        r"The observation entry 'state' is missing. Give the observation that env.reset",
    ),
    "another image": (
        lambda obs: obs | {"camera": np.zeros((64, 64, 3), np.uint8)},
        r"'camera' has shape \(64, 64, 3\), but the agent was trained on \(48, 80, 3\)",
    ),
    "another vector": (lambda obs: obs | {"state": np.zeros(2)}, r"'state' has shape \(2,\), .* \(N, 3\) for a batch"),
    "key of a batch": (lambda obs: obs | {"state": np.zeros((2, 3))}, "'camera' is no batch, 'state' is a batch of 2"),
    "empty batch": (lambda obs: {key: value[None][:0] for key, value in obs.items()}, "a batch of 0 environments"),
    "floats": (lambda obs: obs | {"camera": obs["camera"].astype(np.float32)}, "'camera' has dtype float32"),
    "NaN": (lambda obs: obs | {"state": np.full(3, np.nan)}, "'state' contains NaN"),
    "result of reset": (lambda obs: (obs, {}), "The observation is a tuple. Give the observation that"),
    "array": (lambda obs: obs["camera"], "entry 'camera' is missing"),
    "text": (lambda obs: obs | {"state": "far"}, r"'state' has shape \(\)"),
    "ragged list": (lambda obs: obs | {"state": [[1], [2, 3]]}, "'state' is a list, not an array"),
}


@pytest.fixture(scope="module")
def dict_policy() -> reverie.Policy:
    space = spaces.Dict({"camera": OBSERVATIONS["image"], "state": spaces.Box(-1, 1, (3,))})
    return make_agent(lambda: Spaces(space, BOX)).policy()


@pytest.mark.parametrize("name", REFUSED)
def test_policy_observation_that_does_not_fit_is_refused_in_a_sentence(dict_policy: reverie.Policy, name: str) -> None:
    change, words = REFUSED[name]
    valid = {"camera": np.zeros((48, 80, 3), np.uint8), "state": np.zeros(3, np.float32)}
    with pytest.raises(ObservationError, match=words) as refused:
        dict_policy(change(valid))
    text = str(refused.value)
    assert text.endswith(".") and "\n" not in text and len(text) <= 160
    dict_policy.reset()
    assert dict_policy(valid).shape == (2,)


def test_policy_bare_observation_of_another_shape_is_refused() -> None:
    policy = make_agent("CartPole-v1").policy()
    with pytest.raises(ObservationError, match=r"^The observation has shape \(3,\), .* trained on \(4,\)"):
        policy(np.zeros(3))
    with pytest.raises(ObservationError, match="is a tuple"):
        policy((np.zeros(4), {}))
    assert type(policy([0.0, 0.1, 0.0, 0.1])) is int and type(policy(torch.zeros(4))) is int


def test_policy_of_a_tuple_space_refuses_other_tuples() -> None:
    space = spaces.Tuple((spaces.Discrete(5), spaces.Discrete(2)))
    policy = make_agent(lambda: Spaces(space, BOX)).policy()
    for obs in [((3, 1), {}), (3, 1, 0), (3,), ()]:
        with pytest.raises(ObservationError, match="The observation is a tuple"):
            policy(obs)
    assert policy((3, 1)).shape == (2,)
    policy.reset()
    assert policy((np.array([3, 1]), np.array([0, 1]))).shape == (2, 2)


def test_policy_converts_by_the_keys_that_the_agent_was_trained_with(tmp_path: Path) -> None:
    space = spaces.Dict(grid=spaces.Box(0, 255, (7, 7, 3), np.uint8), camera=spaces.Box(0, 255, (20, 20, 3), np.uint8))
    keys = {"env.image_keys": ("grid",), "env.vector_keys": ("camera",)}
    agent = make_agent(lambda: Spaces(space, BOX), **keys)
    assert {key: spec.is_image for key, spec in agent.spec.observations.items()} == {"camera": False, "grid": True}
    save_agent(agent, tmp_path / "agent")
    loaded = reverie.load(tmp_path / "agent")
    assert loaded.spec == agent.spec
    assert loaded.policy()(space.sample()).shape == (2,)


def test_policy_other_number_of_environments_is_refused() -> None:
    policy = make_agent("CartPole-v1").policy()
    policy(np.zeros((2, 4)))
    with pytest.raises(ObservationError, match=r"of 3 environments, but the policy acts in 2. Call policy.reset\(\)"):
        policy(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"mask has shape \(3,\)"):
        policy.reset([True] * 3)
    policy.reset()
    assert policy(np.zeros((3, 4))).shape == (3,)
    assert isinstance(ObservationError(), ReverieError)


def test_weights_only_is_smaller_and_acts_alike_but_for_rounding(tmp_path: Path) -> None:
    agent = make_agent("CartPole-v1", **{"world_model.normalize_vectors": True})
    state = agent.state_dict()
    statistics = next(name for name in state if name.endswith(".mean"))
    state[statistics].fill_(1e6)  # too large for 16 bits, and no parameter
    with torch.no_grad():
        large = next(agent.world_model.decoder.parameters())
        large.view(-1)[0] = 1e6  # a parameter that 16 bits cannot hold keeps 32
    save_agent(agent, tmp_path / "all")
    save_agent(agent, tmp_path / "weights", weights_only=True)
    sizes = [(tmp_path / name / "tensors.safetensors").stat().st_size for name in ("all", "weights")]
    assert sizes[1] < sizes[0] / 4
    loaded = reverie.load(tmp_path / "weights")
    assert (loaded.agent_steps, loaded.updates, loaded.config) == (agent.agent_steps, agent.updates, agent.config)
    for name, value in agent.state_dict().items():
        assert loaded.state_dict()[name].dtype == value.dtype
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    assert loaded.policy()(np.zeros(4)) in (0, 1)


# --- the agent -------------------------------------------------------------------------------------------------------


def test_agent_of_a_spec_without_spaces_has_a_policy() -> None:
    agent = build_agent(preset("debug").override(**TINY), EnvSpec(DICT, DISCRETE))
    obs = {key: np.zeros(entry.shape, entry.dtype) for key, entry in DICT.items()}
    assert agent.policy()(obs) in range(4)


def test_agent_repr_is_one_line() -> None:
    assert repr(make_agent("CartPole-v1")).startswith("Agent(CartPole-v1, ")
    assert "\n" not in repr(make_agent("CartPole-v1")) and "deterministic" in repr(make_agent("CartPole-v1").policy())


@pytest.mark.parametrize(
    "spaces_of",
    [
        lambda valid: [],
        lambda valid: {"observation": valid["observation"]},
        lambda valid: valid | {"observation": {"kind": "Text"}},
        lambda valid: valid | {"observation": {**valid["observation"], "shape": [1 << 20, 1 << 20]}},
        lambda valid: valid | {"observation": {"kind": "Discrete", "n": 7, "start": 0}},
        lambda valid: valid | {"action": {"kind": "Discrete", "n": 3, "start": 0}},
        lambda valid: valid | {"action": {"kind": "MultiBinary", "shape": [2]}},
    ],
)
def test_load_agent_of_invalid_spaces_is_refused(tmp_path: Path, spaces_of: Callable[[Any], Any]) -> None:
    saved = snapshot(make_agent("CartPole-v1"))
    state = {**saved.state, "spec": spaces_of(saved.state["spec"])}
    write_checkpoint(tmp_path / "agent", 0, Snapshot(saved.tensors, state))
    with pytest.raises(CheckpointError):
        load(tmp_path / "agent")

"""Vector environments of Gymnasium: in every mode of resetting, the episodes of single environments."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

import reverie
from reverie.agents import build_agent
from reverie.collectors.sync_collector import SyncCollector
from reverie.config import EnvConfig, preset
from reverie.envs import env_spec, make_env
from reverie.envs.gym_vector import GymVectorWorker, num_vector_envs
from reverie.envs.step_wrapper import StepWrapper
from reverie.envs.vector import RestartingWorker, VectorEnv
from reverie.errors import ConfigError, EnvError, ReverieError
from reverie.specs import Step
from tests.helpers.agents import TINY

NUM_ENVS, STEPS = 3, 60


class Walk(gymnasium.Env[Any, Any]):
    """A random walk that ends by itself or, at a random step, by a time limit; the reward is the action."""

    observation_space = gymnasium.spaces.Dict(
        {"place": gymnasium.spaces.Box(-100, 100, (2,), np.float32), "seen": gymnasium.spaces.Discrete(3)}
    )
    action_space = gymnasium.spaces.Discrete(3, start=1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start near zero, with a new time limit."""
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.limit, self.steps = int(self.np_random.integers(2, 9)), 0
        return self.observation(), {}

    def step(self, action: Any) -> Any:
        """Move by the action and by chance."""
        assert 1 <= action < 4
        self.steps += 1
        self.place = self.place + np.float32(action) + self.np_random.uniform(-1, 1, 2).astype(np.float32)
        info = {"place": float(self.place[0])} if self.steps >= self.limit else {}
        return self.observation(), float(action), bool(self.place[0] > 9), self.steps >= self.limit, info

    def observation(self) -> Any:
        """Return place and number of steps."""
        return {"place": self.place.copy(), "seen": min(self.steps, 2) if hasattr(self, "steps") else 0}


def choose(step: Step) -> Any:
    """Return an action that depends on the latest place."""
    return np.eye(3, dtype=np.float32)[np.abs(step["place"][:, 0] * 7).astype(int) % 3]


def play_singly() -> list[list[dict[str, Any]]]:
    """Return the steps of each environment, stepped by itself."""
    played = []
    for index in range(NUM_ENVS):
        env, steps = StepWrapper(Walk(), seed=5 + index), []
        while len(steps) < STEPS:
            step = {**env.reset(), "action": np.zeros(3)}
            steps.append(step)
            while not step["is_last"]:
                action = choose({key: np.array([value]) for key, value in step.items()})[0]
                step = {**env.step(action), "action": action}
                steps.append(step)
        played.append(steps[:STEPS])
    return played


def vector_env(env: Any) -> VectorEnv:
    """Return our interface to a vector environment."""
    return VectorEnv([RestartingWorker(lambda _: GymVectorWorker(env, EnvConfig(), seed=5), restart=False)])


def collect(env: VectorEnv) -> tuple[list[list[dict[str, Any]]], list[Any]]:
    """Return what a collector stores of each environment, and the episodes."""
    collector, stored, episodes = SyncCollector(env), [[] for _ in range(NUM_ENVS)], []
    while min(map(len, stored)) < STEPS:
        (transition,) = collector.step(choose)
        episodes += transition.episodes
        for step, mask in transition.steps:
            for index in np.flatnonzero(mask):
                stored[index].append({key: rows[index] for key, rows in step.items()})
    return [steps[:STEPS] for steps in stored], episodes


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_gym_vector_worker_collects_the_episodes_of_single_environments(mode: AutoresetMode, kind: Any) -> None:
    with vector_env(kind([Walk] * NUM_ENVS, autoreset_mode=mode)) as env:
        stored, episodes = collect(env)
    singly = play_singly()
    for found, expected in zip(stored, singly, strict=True):
        for row, (one, other) in enumerate(zip(found, expected, strict=True)):
            for key, value in other.items():
                np.testing.assert_array_equal(one[key], np.asarray(value, one[key].dtype), f"{key} of step {row}")
    ends = [(index, step) for index, steps in enumerate(singly) for step in steps if step["is_last"]]
    assert len(ends) > 10 and {step["is_terminal"] for _, step in ends} == {False, True}
    last = {(episode.env, episode.info["place"]) for episode in episodes if episode.info}
    assert {(index, float(step["place"][0])) for index, step in ends if not step["is_terminal"]} <= last


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_gym_vector_worker_counts_lengths_and_returns_without_resets(mode: AutoresetMode) -> None:
    with vector_env(SyncVectorEnv([Walk] * NUM_ENVS, autoreset_mode=mode)) as env:
        stored, episodes = collect(env)
    expected, total, length = [], 0.0, 0
    for index, steps in enumerate(stored):
        for step in steps:
            total, length = (0.0, 0) if step["is_first"] else (total + step["reward"], length + 1)
            if step["is_last"]:
                expected.append((index, total, length))
    found = [(episode.env, episode.return_, episode.length) for episode in episodes]
    assert expected and all(one in found for one in expected)


def test_gym_vector_worker_of_a_mode_given_as_text_steps_in_that_mode() -> None:
    env = SyncVectorEnv([Walk] * NUM_ENVS, autoreset_mode=AutoresetMode.SAME_STEP)
    env.metadata = {"autoreset_mode": "SameStep"}
    with vector_env(env) as vector:
        stored, _ = collect(vector)
    for found, expected in zip(stored, play_singly(), strict=True):
        np.testing.assert_array_equal([step["place"] for step in found], [step["place"] for step in expected])


def test_gym_vector_worker_of_an_unknown_mode_is_refused() -> None:
    env = SyncVectorEnv([Walk])
    env.metadata = {"autoreset_mode": "same"}
    with pytest.raises(EnvError, match=r"is 'same'\..*Give one of gymnasium\.vector\.AutoresetMode"):
        vector_env(env)


@pytest.mark.parametrize("metadata", [{}, {"autoreset_mode": AutoresetMode.DISABLED}])
def test_train_of_a_wrong_mode_of_resetting_ends_without_a_restart(metadata: dict[str, Any], tmp_path: Path) -> None:
    created = []

    def create() -> SyncVectorEnv:
        created.append(SyncVectorEnv([Walk] * 3, autoreset_mode=AutoresetMode.SAME_STEP))
        created[-1].metadata = metadata
        return created[-1]

    with pytest.raises(ReverieError, match=r"resets environments in the step.*AutoresetMode\.SAME_STEP"):
        reverie.train(create, logdir=tmp_path / "run", steps=120, eval_every=0, **SMALL)
    assert len(created) == 1


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_gym_vector_worker_of_a_list_of_infos_gives_each_episode_its_own(mode: AutoresetMode) -> None:
    with vector_env(DictInfoToList(SyncVectorEnv([Walk] * NUM_ENVS, autoreset_mode=mode))) as env:
        stored, episodes = collect(env)
    for found, expected in zip(stored, play_singly(), strict=True):
        np.testing.assert_array_equal([step["place"] for step in found], [step["place"] for step in expected])
    assert any("place" in episode.info for episode in episodes)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_gym_vector_worker_leaves_out_infos_that_are_not_of_each_environment(mode: AutoresetMode) -> None:
    class Reports(SyncVectorEnv):
        def step(self, actions: Any) -> Any:
            *result, infos = super().step(actions)
            extra = {"fps": 30.0, "text": "abc", "none": None, "ragged": [[1], [2, 3]], "_place_": 3, "list": [4, 5, 6]}
            return *result, {**infos, **extra}

    with vector_env(Reports([Walk] * NUM_ENVS, autoreset_mode=mode)) as env:
        _, episodes = collect(env)
    assert episodes and {key for episode in episodes for key in episode.info} <= {"place", "list"}


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_gym_vector_worker_gives_infos_of_vector_wrappers(mode: AutoresetMode) -> None:
    with vector_env(RecordEpisodeStatistics(SyncVectorEnv([Walk] * NUM_ENVS, autoreset_mode=mode))) as env:
        _, episodes = collect(env)
    assert episodes
    for episode in episodes:
        assert (episode.info["episode"]["r"], episode.info["episode"]["l"]) == (episode.return_, episode.length)
        assert not {"final_obs", "final_info"} & episode.info.keys()


def test_gym_vector_worker_of_an_environment_without_reset_mask_needs_none() -> None:
    """CartPole's own vector environment resets all environments at once, whatever the options say."""
    env = gymnasium.make_vec("CartPole-v1", num_envs=4, vectorization_mode="vector_entry_point")
    with vector_env(env) as vector:
        vector.reset(vector.needs_reset)
        length, ended = np.zeros(4, int), 0
        for _ in range(100):
            assert not vector.needs_reset.any()
            step = vector.step(np.eye(2, dtype=np.float32)[np.ones(4, int)])
            length = np.where(step["is_first"], 0, length + 1)
            np.testing.assert_array_equal(step["reward"], np.where(step["is_first"], 0, 1))
            ended += step["is_last"].sum()
            assert (length < 12).all()  # always to the right: it falls
        assert ended > 20


def test_gym_vector_worker_error_names_the_environment() -> None:
    class Fails(Walk):
        def step(self, action: Any) -> Any:
            raise RuntimeError("no power")

    with vector_env(SyncVectorEnv([Fails] * 2)) as env:
        env.reset(np.ones(2, bool))
        with pytest.raises(EnvError, match="no power"):
            env.step(np.eye(3, dtype=np.float32)[:2])


def test_gym_vector_worker_whose_restart_fails_is_restarted_later() -> None:
    class Fails(Walk):
        def step(self, action: Any) -> Any:
            raise RuntimeError("no power")

    created = []

    def create() -> SyncVectorEnv:
        created.append(None)
        if len(created) == 2:
            raise OSError("no licence")
        return SyncVectorEnv([Fails] * 2)

    with make_env(EnvConfig(), 0, create, restart=True) as env:
        env.reset(np.ones(2, bool))
        env.step(np.eye(3, dtype=np.float32)[:2])
        env.reset(env.needs_reset)
        failure, second = env.pop_errors()
        assert "no power" in str(failure)
        assert str(second) == "create could not create the environment: OSError: no licence."
        assert env.failed.all() and env.reset(env.needs_reset)["is_first"].all()


def test_gym_vector_worker_restored_begins_new_episodes() -> None:
    with vector_env(SyncVectorEnv([Walk] * 2)) as env, vector_env(SyncVectorEnv([Walk] * 2)) as other:
        latest = env.reset(np.ones(2, bool))
        problems = other.set_states(env.get_states(), latest, [lambda: iter(())] * 2)
        assert all("cannot be restored" in problem for problem in problems) and other.needs_reset.all()
        assert other.reset(other.needs_reset)["is_first"].all()


class Pool(gymnasium.Env[Any, Any]):
    """Walks with the interface of EnvPool: a `gymnasium.Env` whose `config` has their number."""

    def __init__(self, num_envs: int = 2, batch_size: int = 0) -> None:
        self.config = {"num_envs": num_envs, "batch_size": batch_size}
        self.envs = SyncVectorEnv([Walk] * num_envs)
        self.observation_space, self.action_space = Walk.observation_space, Walk.action_space

    def reset(self, **options: Any) -> Any:
        """Reset all; there is no seed."""
        assert not options
        return self.envs.reset(seed=5)

    def step(self, action: Any) -> Any:
        """Step all, and reset those whose episode has ended."""
        return self.envs.step(action)

    def recv(self) -> Any:
        """Wait for those that have stepped; not used."""


class VectorPool(SyncVectorEnv):
    """Walks with the interface of EnvPool from version 1.2, a `gymnasium.vector.VectorEnv`."""

    def __init__(self, num_envs: int = 2, batch_size: int = 0) -> None:
        super().__init__([Walk] * num_envs)
        self.config = {"num_envs": num_envs, "batch_size": batch_size}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        """Reset all; there is no seed."""
        assert seed is None
        return super().reset(seed=5)

    def recv(self) -> Any:
        """Wait for those that have stepped; not used."""


@pytest.mark.parametrize("pool", [Pool, VectorPool, lambda n: gymnasium.vector.VectorWrapper(VectorPool(n))])
def test_gym_vector_worker_of_envpool_collects_unseeded_episodes_of_single_environments(pool: Any) -> None:
    with vector_env(pool(NUM_ENVS)) as env:
        stored, _ = collect(env)
    for found, expected in zip(stored, play_singly(), strict=True):
        np.testing.assert_array_equal([step["place"] for step in found], [step["place"] for step in expected])


@pytest.mark.parametrize("pool", [Pool, VectorPool])
def test_gym_vector_worker_of_envpool_with_batch_size_is_refused(pool: Any) -> None:
    with pytest.raises(EnvError, match="no batch_size"):
        vector_env(pool(4, batch_size=2))


def test_train_in_an_envpool_of_dm_env_is_refused(tmp_path: Path) -> None:
    class DmPool:
        spec = object()
        reset = step = recv = action_spec = observation_spec = lambda self: None

        def __init__(self) -> None:
            self.config = {"num_envs": 3, "batch_size": 0}

        def close(self) -> None:
            """There is nothing to close."""

    for env in (DmPool, DmPool()):
        with pytest.raises(EnvError, match=r"DmPool is no environment of Gymnasium\. Give env_type='gymnasium'"):
            reverie.train(env, logdir=tmp_path / "run", steps=120, eval_every=0, **SMALL)


SMALL: dict[str, Any] = {
    "preset": "vector",
    "prefill": 60,
    "pretrain": 1,
    "train_every": 30,
    "quiet": True,
    "threads": 1,
    "replay.batch_length": 8,
}


@pytest.mark.parametrize("kind", ["instance", "function", "processes", "envpool"])
def test_train_steps_vector_environments_as_they_are(kind: str, tmp_path: Path) -> None:
    envs: dict[str, Any] = {
        "instance": SyncVectorEnv([Walk] * 3, autoreset_mode=AutoresetMode.DISABLED),
        "function": lambda: SyncVectorEnv([Walk] * 3),
        "processes": lambda: AsyncVectorEnv([Walk] * 3, autoreset_mode=AutoresetMode.SAME_STEP),
        "envpool": lambda: Pool(3),
    }
    env, run = envs[kind], tmp_path / "run"
    reverie.train(env, logdir=run, steps=120, eval_every=60, eval_episodes=4, **SMALL)
    agent = reverie.train(env, logdir=run, steps=180, resume=True, **SMALL)
    assert 180 <= agent.agent_steps < 183
    lengths = reverie.evaluate(run, env, episodes=4).lengths
    assert len(lengths) == 4 and lengths.max() <= 8


def test_train_in_an_environment_with_a_config_of_its_own_is_no_vector_environment(tmp_path: Path) -> None:
    class Configured(Walk):
        def __init__(self) -> None:
            self.config = {"num_envs": 4, "lr": 1}

    assert num_vector_envs(Configured()) is None
    agent = reverie.train(Configured, logdir=tmp_path / "run", steps=60, eval_every=0, **SMALL)
    assert agent.agent_steps == 60


@pytest.mark.parametrize("kind", ["processes", "wrapped", "envpool", "vector envpool"])
def test_train_in_an_instance_that_cannot_be_copied_for_evaluations_is_refused(kind: str, tmp_path: Path) -> None:
    envs: dict[str, Any] = {
        "processes": lambda: AsyncVectorEnv([Walk] * 2),
        "wrapped": lambda: RecordEpisodeStatistics(AsyncVectorEnv([Walk] * 2)),
        "envpool": lambda: Pool(2),
        "vector envpool": lambda: VectorPool(2),
    }
    with pytest.raises(EnvError, match=r"cannot be copied\. Pass a function"):
        reverie.train(envs[kind](), logdir=tmp_path / "run", steps=60, eval_every=60, **SMALL)
    assert not (tmp_path / "run").exists()
    assert reverie.train(envs[kind](), logdir=tmp_path / "run", steps=60, eval_every=0, **SMALL).agent_steps >= 60


def test_train_with_a_prefill_too_small_for_a_vector_environment_is_refused(tmp_path: Path) -> None:
    settings = {**SMALL, "prefill": 23}
    with pytest.raises(ConfigError, match=r"at least 24 steps are needed .* from each of 3 environments"):
        reverie.train(lambda: SyncVectorEnv([Walk] * 3), logdir=tmp_path / "run", steps=60, eval_every=0, **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("observations", ["pixels", "both"])
def test_gym_vector_worker_notes_settings_without_effect(observations: Any) -> None:
    config = EnvConfig(observations=observations, time_limit=7)
    notes = env_spec(config, lambda: SyncVectorEnv([Walk] * 2)).notes
    assert any(f"Without effect: env.observations={observations}, env.time_limit=7." in note for note in notes)
    assert not env_spec(EnvConfig(), lambda: SyncVectorEnv([Walk] * 2)).notes


@pytest.mark.parametrize("is_function", [True, False])
@pytest.mark.parametrize("settings", [{"env.num_envs": 2, "env.parallel": True}, {"env.step_timeout": 60.0}])
def test_evaluate_in_a_vector_environment_steps_it_in_this_process(settings: dict[str, Any], is_function: bool) -> None:
    limits = {"env.time_limit": 2, "env.action_repeat": 2, "replay.sampling": "steps"}
    config = preset("vector").for_env("Walk").override(**{**TINY, **limits, "env.parallel": True, **settings})
    env = SyncVectorEnv([Walk] * 3)
    agent = build_agent(config, env_spec(EnvConfig(), Walk))
    scores = reverie.evaluate(agent, (lambda: env) if is_function else env, episodes=6)
    assert len(scores.returns) == 6 and scores.lengths.max() > 2
    assert (scores.protocol["action_repeat"], scores.protocol["time_limit"]) == (1, None)
    assert env.closed == is_function
    env.close()


def test_evaluate_leaves_a_vector_environment_open(tmp_path: Path) -> None:
    env = SyncVectorEnv([Walk] * 2)
    reverie.train(Walk, logdir=tmp_path / "run", steps=60, eval_every=0, **SMALL)
    assert len(reverie.evaluate(tmp_path / "run", env, episodes=3).returns) == 3
    assert not env.closed
    env.close()


def test_train_vector_environments_in_worker_processes_are_refused(tmp_path: Path) -> None:
    settings = {"env.num_envs": 2, "env.parallel": True, **SMALL}
    with pytest.raises(EnvError, match=r"is a vector environment\..*Leave env\.num_envs at 1"):
        reverie.train(lambda: SyncVectorEnv([Walk] * 3), logdir=tmp_path / "run", steps=120, **settings)

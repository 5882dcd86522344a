"""The DeepMind Control Suite, compared with dm_control itself."""

import os
import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest

from reverie.config import EnvConfig, preset
from reverie.envs import dmc, env_spec, list_envs, make_env, make_gym_env
from reverie.envs.registry import find_spec
from reverie.envs.step_wrapper import StepWrapper
from reverie.specs import ActionSpec

pytest.importorskip("dm_control")
find_spec("dmc/walker-walk")  # chooses MUJOCO_GL
suite = pytest.importorskip("dm_control.suite")
needs_pictures = pytest.mark.skipif(os.environ.get("MUJOCO_GL") == "off", reason="MuJoCo can draw no pictures here")

ONE = np.array([True])


def task(name: str, **settings: Any) -> EnvConfig:
    return EnvConfig(name=f"dmc/{name}", **settings)


def test_every_task_of_the_suite_is_listed() -> None:
    listed = next(entry for entry in list_envs() if entry.title == "DeepMind Control")
    assert listed.ids == tuple(sorted(f"dmc/{domain}-{name}" for domain, name in suite.ALL_TASKS))
    assert {"dmc/walker-walk", "dmc/ball_in_cup-catch", "dmc/humanoid_CMU-run"} <= set(listed.ids)


def test_states_and_rewards_are_the_suites_own() -> None:
    env = make_gym_env(task("cheetah-run", action_repeat=2))
    own = suite.load("cheetah", "run")
    observation, _ = env.reset(seed=3)
    own.task.random.seed(int(np.random.Generator(np.random.PCG64(3)).integers(1 << 32)))
    time_step, rng = own.reset(), np.random.default_rng(0)
    for _ in range(20):
        for key, value in time_step.observation.items():
            np.testing.assert_array_equal(observation[key], value)
        action = rng.uniform(-1, 1, 6)
        observation, reward, *ends, _ = env.step(action)
        steps = [own.step(action) for _ in range(2)]
        time_step = steps[-1]
        assert reward == steps[0].reward + steps[1].reward and ends == [False, False]


@pytest.mark.parametrize(("limit", "length"), [(0, 500), (3, 3), (510, 510)])
def test_time_limit_truncates(limit: int, length: int) -> None:
    with make_env(task("pendulum-swingup", action_repeat=2, time_limit=limit), 0) as env:
        step, count = env.reset(ONE), 0
        while not step["is_last"][0]:
            step, count = env.step(np.zeros((1, 1), np.float32)), count + 1
    assert count == length and not step["is_terminal"][0]


def test_discount_zero_terminates() -> None:
    env = make_gym_env(task("lqr-lqr_2_1"))
    env.reset(seed=0)
    physics = env.unwrapped.wrapped.physics  # type: ignore[attr-defined]
    with physics.reset_context():
        physics.data.qpos[:] = physics.data.qvel[:] = 0  # at rest in the middle it is solved
    assert env.step(np.zeros(1, np.float32))[2:4] == (True, False)


@pytest.mark.parametrize("name", ["walker-walk", "reacher-hard", "lqr-lqr_6_2", "manipulator-bring_ball"])
def test_another_environment_continues_an_episode_by_its_actions(name: str) -> None:
    config = task(name)
    env, other = (StepWrapper(make_gym_env(config), seed, action_repeat=2) for seed in (0, 9))
    rng, size = np.random.default_rng(0), env.spec.action.size

    def actions(count: int) -> Any:
        return rng.uniform(-1, 1, (count, size)).astype(np.float32)

    env.reset()
    [env.step(action) for action in actions(5)]
    taken = actions(15)
    rows = [{**env.reset(), "action": np.zeros(size, np.float32)}]
    rows += [{**env.step(action), "action": action} for action in taken]
    steps = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    other.reset()
    assert not other.set_state(env.get_state())
    other.replay(steps)
    for action in actions(10):
        found, expected = other.step(action), env.step(action)
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value)


def test_specs_of_states() -> None:
    spec = env_spec(task("quadruped-walk"))
    assert spec.action == ActionSpec("continuous", (12,))
    assert {entry.dtype for entry in spec.observations.values()} == {"float32"}


def test_register_called_again_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dmc.register()


def test_gymnasium_makes_registered_tasks() -> None:
    env = gymnasium.make("dmc/cartpole-balance")
    assert set(env.reset(seed=0)[0]) == {"position", "velocity"}


@pytest.mark.parametrize(("own", "length"), [(1, 500), (4, 250)])
def test_task_of_gymnasium_make_repeats_actions_once(own: int, length: int) -> None:
    config = EnvConfig(action_repeat=2)
    with make_env(config, 0, lambda: gymnasium.make("dmc/cartpole-balance", action_repeat=own)) as env:
        step, count = env.reset(ONE), 0
        while not step["is_last"][0]:
            step, count = env.step(np.zeros((1, 1), np.float32)), count + 1
    assert count == length


@needs_pictures
@pytest.mark.parametrize(("name", "camera"), [("walker-walk", 0), ("quadruped-run", 2)])
def test_pictures_are_those_of_the_releases_camera(name: str, camera: int) -> None:
    with make_env(task(name, observations="pixels", action_repeat=2), 0) as env:
        image = env.reset(ONE)["image"][0]
    states = make_gym_env(task(name))
    states.reset(seed=int(np.random.SeedSequence((0, 0)).generate_state(1)[0]))
    physics = states.unwrapped.wrapped.physics  # type: ignore[attr-defined]
    np.testing.assert_array_equal(image, physics.render(64, 64, camera_id=camera))
    assert image.std() > 5


@needs_pictures
def test_both_has_states_and_the_picture() -> None:
    states, both = (env_spec(task("walker-walk", observations=kind)).observations for kind in ("state", "both"))
    assert list(both) == [*states, "image"] and both["image"].shape == (64, 64, 3)


@needs_pictures
def test_pictures_in_worker_processes_are_the_same() -> None:
    found = []
    for parallel in (False, True):
        with make_env(task("cartpole-swingup", observations="pixels", num_envs=2, parallel=parallel), 0) as env:
            env.reset(np.ones(2, bool))
            found.append(env.step(np.ones((2, 1), np.float32))["image"])
    np.testing.assert_array_equal(*found)
    assert (found[0][0] != found[0][1]).any()


def test_without_graphics_states_work_and_pictures_are_refused_in_a_sentence() -> None:
    program = (
        "from reverie.config import EnvConfig; from reverie.envs import env_spec\n"
        "for kind in ('state', 'pixels'):\n"
        "    try: print(list(env_spec(EnvConfig(name='dmc/walker-walk', observations=kind)).observations))\n"
        "    except Exception as error: print(error)"
    )
    env = {**os.environ, "MUJOCO_GL": "off", "PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    states, pictures = done.stdout.splitlines()
    assert "orientations" in states, done.stderr
    assert "MuJoCo can draw no pictures here" in pictures and "--preset dmc-proprio" in pictures


@pytest.mark.parametrize(("name", "observations"), [("dmc-vision", "pixels"), ("dmc-proprio", "state")])
def test_presets_choose_observations(name: str, observations: str) -> None:
    assert preset(name).env.observations == observations


def test_graphics_are_chosen_without_a_screen() -> None:
    program = (
        "import os; from reverie.config import EnvConfig; from reverie.envs import env_spec\n"
        "env_spec(EnvConfig(name='dmc/walker-walk')); print(os.environ['MUJOCO_GL'])"
    )
    env = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    env["PYTHONPATH"] = ":".join(path for path in sys.path if path)
    # Mesa's EGL finds no driver then, and must not be chosen.
    for extra, possible in (({}, {"egl", "osmesa", "off"}), ({"__EGL_VENDOR_LIBRARY_DIRS": "/"}, {"osmesa", "off"})):
        done = subprocess.run([sys.executable, "-c", program], env={**env, **extra}, capture_output=True, text=True)
        assert done.stdout.strip() in possible, done.stderr

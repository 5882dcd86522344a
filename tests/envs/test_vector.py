"""`VectorEnv`: the same in one process and in several, seeds, partial resets, and workers that die."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest

from reverie.config import EnvConfig
from reverie.envs import VectorEnv, make_env
from reverie.envs.workers import IS_SUPPORTED
from reverie.errors import EnvError
from reverie.specs import Array, Step
from tests.helpers.environments import Catch, Counting, Everything, Faulty

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="worker processes need POSIX")
ALL = np.array([True, True, True])


def random_actions(env: VectorEnv, rng: np.random.Generator) -> Array:
    spec = env.spec.action
    if spec.kind == "continuous":
        return rng.uniform(-1, 1, (env.num_envs, spec.size)).astype(np.float32)
    choices = [np.eye(size, dtype=np.float32)[rng.integers(size, size=env.num_envs)] for size in spec.sizes]
    return np.concatenate(choices, -1)


def record(env: VectorEnv, steps: int) -> list[Step]:
    """Steps with random actions and resets where episodes end; closes the environment."""
    rng = np.random.default_rng(0)
    with env:
        result = [env.reset(np.ones(env.num_envs, bool))]
        for _ in range(steps):
            result.append(env.step(random_actions(env, rng)))
            if result[-1]["is_last"].any():
                result.append(env.reset(result[-1]["is_last"]))
    return result


def assert_same(one: list[Step], other: list[Step]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert list(left) == list(right)
        for key in left:
            assert left[key].dtype == right[key].dtype
            np.testing.assert_array_equal(left[key], right[key], err_msg=key)


@pytest.mark.parametrize(
    ("name", "factory", "repeat"),
    [
        ("", partial(Catch, 3), 1),
        ("", partial(Everything, "multidiscrete"), 2),
        ("CartPole-v1", None, 1),
        ("Pendulum-v1", None, 2),
        ("ALE/Boxing-v5", None, 4),
    ],
    ids=["catch", "everything", "cartpole", "pendulum", "boxing"],
)
def test_steps_in_processes_equal_those_in_this_process(
    name: str, factory: Any, repeat: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reverie.envs.make.usable_cores", lambda: 2)  # workers with two environments and one
    config = EnvConfig(name=name, num_envs=3, action_repeat=repeat, time_limit=17)
    inline = record(make_env(EnvConfig(**{**vars(config), "parallel": False}), 7, factory), 40)
    remote = record(make_env(config, 7, factory), 40)
    assert_same(inline, remote)
    assert sum(step["is_last"].any() for step in inline) >= 2
    if name.startswith("ALE"):
        return
    other = record(make_env(EnvConfig(**{**vars(config), "parallel": False}), 8, factory), 10)
    observed = next(iter(inline[0]))
    assert any((a[observed] != b[observed]).any() for a, b in zip(inline, other, strict=False))


def test_seeds_of_environments_differ_and_do_not_depend_on_num_envs() -> None:
    def first(num_envs: int) -> Array:
        env = make_env(EnvConfig(num_envs=num_envs, parallel=False), 3, Everything)
        return env.reset(np.ones(num_envs, bool))["velocity"]

    four = first(4)
    assert len(np.unique(four[:, 0])) == 4
    np.testing.assert_array_equal(first(2), four[:2])


def test_step_returns_shapes_and_dtypes_of_the_spec() -> None:
    env = make_env(EnvConfig(num_envs=3, parallel=False, action_repeat=2), 0, Everything)
    assert (env.num_envs, env.frames_per_step) == (3, 2)
    for step in record(env, 2):
        assert [*step, "action"] and set(step) | {"action"} == set(env.spec.step)
        for key, array in step.items():
            spec = env.spec.step[key]
            assert (array.shape, str(array.dtype)) == ((3, *spec.shape), spec.dtype), key


@pytest.mark.parametrize("parallel", [False, True])
def test_reset_with_a_mask_keeps_the_other_rows(parallel: bool) -> None:
    left = np.tile(np.array([1, 0], np.float32), (3, 1))
    with make_env(EnvConfig(num_envs=3, parallel=parallel), 0, Counting) as env:
        env.reset(ALL)
        env.step(left)
        before = env.step(left)
        kept = {key: array.copy() for key, array in before.items()}
        after = env.reset(np.array([False, True, False]))
        np.testing.assert_array_equal(after["vector"], [[2, 1], [0, 2], [2, 1]])
        np.testing.assert_array_equal(after["is_first"], [False, True, False])
        np.testing.assert_array_equal(after["reward"], [2, 0, 2])
        np.testing.assert_array_equal(env.step(left)["vector"], [[3, 1], [1, 2], [3, 1]])
        for key in kept:  # what was returned earlier is not written over
            np.testing.assert_array_equal(before[key], kept[key])
        assert not env.reset(np.array([False, False, False]))["is_first"].any()


def test_reset_and_step_with_invalid_arguments_raise() -> None:
    env = make_env(EnvConfig(num_envs=3, parallel=False), 0, Counting)
    with pytest.raises(ValueError, match="first reset"):
        env.reset(np.array([True, False, True]))
    with pytest.raises(ValueError, match="bool array"):
        env.reset(np.array([True]))
    env.reset(ALL)
    with pytest.raises(EnvError, match="shape"):
        env.step(np.zeros((2, 2), np.float32))
    with pytest.raises(EnvError, match="one-hot"):
        env.step(np.zeros((3, 2), np.float32))


def run_into(fault: str, parallel: bool) -> EnvError:
    left = np.tile(np.array([1, 0], np.float32), (2, 1))
    with make_env(EnvConfig(num_envs=2, parallel=parallel), 0, partial(Faulty, fault)) as env:
        both = np.array([True, True])
        with pytest.raises(EnvError) as caught:
            for _ in range(2):
                env.reset(both)
                for _ in range(5):
                    env.step(left)
        with pytest.raises(EnvError, match="cannot be stepped"):
            env.reset(both)
    return caught.value


@pytest.mark.parametrize("fault", ["raises", "reward nan"])
def test_errors_from_a_process_have_the_same_text(fault: str) -> None:
    inline, remote = run_into(fault, False), run_into(fault, True)
    assert str(inline) == str(remote)
    assert "Faulty (1 of 2), episode 2, step 3" in str(remote)
    assert any("in step" in note for note in remote.__notes__)  # the worker's own stack, for debugging


def test_step_after_a_process_died_raises_with_its_exit_status() -> None:
    assert "The worker process of environment" in str(run_into("dies", True))
    assert "exit status 7" in str(run_into("dies", True))


def test_make_env_when_a_process_cannot_start_raises() -> None:
    with pytest.raises(EnvError, match="did you mean CartPole-v1"):
        make_env(EnvConfig(name="CartPol-v1", num_envs=2), 0)
    lock = __import__("threading").Lock()
    with pytest.raises(EnvError, match=r"cannot be sent to a worker process.*env\.parallel"):
        make_env(EnvConfig(num_envs=2), 0, lambda: lock and Counting())


def workers(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children()
    return [child for child in children if "reverie.envs.workers" in " ".join(child.cmdline())]


def test_close_called_twice_ends_the_processes() -> None:
    before = set(workers(os.getpid()))
    env = make_env(EnvConfig(num_envs=2), 0, Counting)
    started = set(workers(os.getpid())) - before
    assert started
    env.close()
    env.close()
    assert not any(process.is_running() for process in started)


PROGRAM = """
    import os, signal, sys, time
    import gymnasium
    import numpy as np
    from reverie.config import EnvConfig
    from reverie.envs import make_env

    class Local(gymnasium.Env):  # known to this script only
        observation_space = gymnasium.spaces.Box(-1, 1, (1,))
        action_space = gymnasium.spaces.Discrete(2)
        def reset(self, seed=None, options=None):
            return np.zeros(1, np.float32), {}
        def step(self, action):
            time.sleep(SLEEP)
            return np.zeros(1, np.float32), 0.0, False, False, {}

    # A shell starts what runs in the background with SIGINT ignored, and the tests with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # No `if __name__ == "__main__"`: a script that a newcomer writes.
    env = make_env(EnvConfig(num_envs=2), 0, Local)
    env.reset(np.ones(2, bool))
    left = np.array([[1, 0], [1, 0]], np.float32)
    try:
        print("ready", flush=True)
        while True:
            env.step(left)
    except KeyboardInterrupt:
        env.close()
    print("closed", flush=True)
"""


def start_program(tmp_path: Path, sleep: float) -> "subprocess.Popen[str]":
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(PROGRAM).replace("SLEEP", str(sleep)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_processes_after_the_parent_is_killed_end(tmp_path: Path) -> None:
    with start_program(tmp_path, sleep=1000) as program:  # even in the middle of a step
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n", program.communicate()
        children = workers(program.pid)
        assert children
        program.kill()
        assert wait_until(lambda: not any(child.is_running() for child in children))


def test_ctrl_c_in_the_terminal_reaches_the_parent_only(tmp_path: Path) -> None:
    with start_program(tmp_path, sleep=0.01) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n", program.communicate()
        os.killpg(program.pid, signal.SIGINT)  # what a terminal does: the whole group gets it
        try:
            out, err = program.communicate(timeout=60)
        finally:
            program.kill()
        assert program.returncode == 0, err
        assert (out, err) == ("closed\n", "")


def test_processes_have_one_thread_each() -> None:
    class Threads(Counting):
        def reset(self, **kwargs: Any) -> Any:
            import cv2

            _, info = super().reset(**kwargs)
            return np.array([cv2.getNumThreads(), int(os.environ["OMP_NUM_THREADS"])], np.float32), info

    assert isinstance(Threads(), gymnasium.Env)
    with make_env(EnvConfig(num_envs=2), 0, Threads) as env:
        np.testing.assert_array_equal(env.reset(np.array([True, True]))["vector"], np.ones((2, 2)))


@pytest.mark.parametrize("parallel", [False, True])
def test_step_returns_new_arrays_that_can_be_written_to(parallel: bool) -> None:
    with make_env(EnvConfig(num_envs=2, parallel=parallel), 0, Catch) as env:
        first = env.reset(np.ones(2, bool))
        kept = {key: value.copy() for key, value in first.items()}
        env.step(np.eye(env.spec.action.size, dtype=np.float32)[[0, 1]])
        for key, value in first.items():
            assert np.array_equal(value, kept[key])
            value[:] = 0

"""Crafter, compared with the package itself."""

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest

from reverie.config import EnvConfig
from reverie.envs import env_spec, make_env, make_gym_env
from reverie.envs.crafter import Crafter, crafter_score, register
from reverie.specs import ActionSpec

ONE = np.array([True])


def test_crafter_score_is_the_geometric_mean() -> None:
    assert crafter_score([0.0] * 22) == 0
    assert crafter_score([1.0] * 22) == pytest.approx(100)
    # By hand: sqrt(101 * 1) - 1.
    assert crafter_score([1.0, 0.0]) == pytest.approx(101**0.5 - 1)


def test_register_called_twice_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gymnasium, "registry", {})
    monkeypatch.setattr(gymnasium.envs.registration, "registry", gymnasium.registry)
    register()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register()


def test_steps_are_the_packages_own() -> None:
    crafter = pytest.importorskip("crafter")
    env = make_gym_env(EnvConfig(name="crafter/reward"))
    image, info = env.reset(seed=5)
    seed = int(np.random.Generator(np.random.PCG64(5)).integers(1 << 31))
    own = crafter.Env(seed=seed)
    np.testing.assert_array_equal(image, own.reset())
    assert image.shape == (64, 64, 3) and len(info["achievements"]) == 22
    rng, total = np.random.default_rng(0), 0.0
    for _ in range(9):  # at the tenth step the package removes creatures in an order of its own
        action = int(rng.integers(17))
        image, reward, terminated, truncated, info = env.step(action)
        expected, own_reward, done, own_info = own.step(action)
        np.testing.assert_array_equal(image, expected)
        total += own_reward
        assert (reward, terminated or truncated) == (own_reward, done)
        assert info["achievements"] == {name: float(n > 0) for name, n in own_info["achievements"].items()}
        assert info["return"] == pytest.approx(total)
        assert info["num_achievements"] == sum(info["achievements"].values())
        if done:
            break


def play(env: Crafter, episodes: int, seed: int = 0) -> list[tuple[bool, bool, dict[str, Any]]]:
    rng, ends = np.random.default_rng(seed), []
    env.reset(seed=seed)
    while len(ends) < episodes:
        _, _, terminated, truncated, info = env.step(int(rng.integers(17)))
        if terminated or truncated:
            ends.append((terminated, truncated, info))
            env.reset()
    return ends


def test_noreward_gives_none_and_logs_them() -> None:
    pytest.importorskip("crafter")
    env = make_gym_env(EnvConfig(name="crafter/noreward"))
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    steps = [env.step(int(rng.integers(17))) for _ in range(60)]
    assert not any(reward for _, reward, *_ in steps)
    assert steps[-1][4]["return"] > 0


def test_score_is_over_the_latest_episodes() -> None:
    pytest.importorskip("crafter")
    infos = [info for _, _, info in play(Crafter(), 3, seed=2)]
    rates = np.mean([list(info["achievements"].values()) for info in infos], 0)
    assert infos[-1]["score"] == pytest.approx(crafter_score(rates.tolist()))
    assert infos[-1]["score"] != crafter_score(list(infos[-1]["achievements"].values()))


def test_death_terminates_and_the_limit_truncates() -> None:
    pytest.importorskip("crafter")
    ((terminated, truncated, _),) = play(Crafter(), 1)
    assert (terminated, truncated) == (True, False)
    env = Crafter()
    env._options["length"] = 5
    ((terminated, truncated, _),) = play(env, 1)
    assert (terminated, truncated) == (False, True)


def test_worlds_depend_on_seed_and_actions_alone() -> None:
    pytest.importorskip("crafter")
    program = (
        "import hashlib, sys; import numpy as np; from reverie.envs.crafter import Crafter\n"
        "kept = [object() for _ in range(int(sys.argv[1]))]\n"  # moves what follows to other addresses
        "env, rng, found = Crafter(), np.random.default_rng(0), hashlib.sha256()\n"
        "env.reset(seed=1)\n"
        "for _ in range(600):\n"
        "    image, reward, over, *_ = env.step(int(rng.integers(6)))\n"
        "    found.update(image.tobytes() + bytes(str(reward), 'ascii'))\n"
        "    if over: break\n"
        "print(found.hexdigest())"
    )
    path = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    found = {
        subprocess.run([sys.executable, "-c", program, str(count)], env=path, capture_output=True, text=True).stdout
        for count in (0, 12345)
    }
    assert len(found) == 1 and found != {""}


def test_spec_is_the_releases() -> None:
    pytest.importorskip("crafter")
    spec = env_spec(EnvConfig(name="crafter/reward"))
    assert list(spec.observations) == ["image"] and spec.action == ActionSpec("discrete", (17,))
    with make_env(EnvConfig(name="crafter/reward", time_limit=3), 0) as env:
        env.reset(ONE)
        lasts = [env.step(np.eye(17, dtype=np.float32)[:1])["is_last"][0] for _ in range(3)]
    assert lasts == [False, False, True]

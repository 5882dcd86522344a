"""Environments by name, instance and function; unknown ones; what there is."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from reverie.config import EnvConfig
from reverie.envs import as_factory, env_spec, list_envs, make_env
from reverie.envs.registry import SUITES, EnvSuite, find_spec
from reverie.errors import ConfigError, EnvError
from reverie.specs import ActionSpec, EnvSpec
from tests.helpers.environments import Catch, Counting, Spaces

ONE = np.array([True])


def message(name: str, **settings: Any) -> str:
    with pytest.raises(EnvError) as caught:
        make_env(EnvConfig(name=name, **settings), 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_ids_get_the_nearest_ones() -> None:
    assert "did you mean CartPole-v1" in message("CartPol-v1")
    assert "did you mean CartPole-v1" in message("cartpole")
    assert "did you mean CartPole-v1" in message("CartPole-v7")
    assert "`reverie list envs`" in message("xyzzy")
    assert "`reverie list envs`" in message("")
    assert "its module cannot be imported (No module named 'nowhere')" in message("nowhere:Thing-v0")
    for strange in ("a b", "a//b", ":", "-v1"):
        assert strange in message(strange)


def test_unknown_games() -> None:
    pytest.importorskip("ale_py")
    assert "ALE/Breakout-v5" in message("ALE/Brekout-v5")
    for name in ("Pong-v5", "pong", "PongDeterministic-v4"):
        assert "did you mean ALE/Pong-v5" in message(name)


def test_missing_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EnvSuite, "is_installed", property(lambda suite: not suite.requires))
    monkeypatch.setattr(gymnasium, "registry", {})  # other tests may have registered the ids
    assert "pip install 'reverie[atari]'" in message("ALE/Pong-v5")
    assert "pip install 'reverie[minigrid]'" in message("MiniGrid-Empty-5x5-v0")
    assert "pip install 'reverie[minatar]'" in message("MinAtar/Breakout-v1")
    assert "pip install 'reverie[dmc]'" in message("dmc/walker-walk")
    assert "pip install 'reverie[crafter]'" in message("crafter/reward")
    listing = {entry.title: entry for entry in list_envs()}
    assert listing["Atari"].install == "pip install 'reverie[atari]'"
    assert listing["Classic control"].install == ""


def test_a_package_that_is_installed_later_is_found() -> None:
    """In a process of its own: another test may have registered the ids before."""
    pytest.importorskip("minatar")
    program = (
        "from unittest import mock; from reverie.envs import registry\n"
        "with mock.patch.object(registry.EnvSuite, 'is_installed', False): registry.list_envs()\n"
        "print(registry.find_spec('MinAtar/Breakout-v1').id)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "MinAtar/Breakout-v1", result.stderr


@pytest.mark.parametrize(("name", "package"), [("LunarLander-v3", "box2d"), ("HalfCheetah-v5", "mujoco")])
def test_registered_but_not_installed(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = next(suite for suite in SUITES if suite.title.lower() == package)
    monkeypatch.setitem(sys.modules, suite.requires, None)  # as if it were not installed
    assert f"gymnasium[{package}]" in message(name)


def test_listing() -> None:
    listing = {entry.title: entry for entry in list_envs()}
    assert {"CartPole-v1", "Pendulum-v1"} <= set(listing["Classic control"].ids)
    assert "CartPole-v0" not in listing["Classic control"].ids  # the newest version only
    pytest.importorskip("ale_py")
    assert len(listing["Atari"].ids) >= 57
    assert {"ALE/Pong-v5", "ALE/Boxing-v5"} <= set(listing["Atari"].ids)
    assert all(name.startswith("ALE/") for name in listing["Atari"].ids)
    for entry in listing.values():
        for name in entry.ids[:3]:
            find_spec(name)


def test_an_id_of_ones_own() -> None:
    gymnasium.register("Mine-v0", Catch, max_episode_steps=4, kwargs={"balls": 3})
    try:
        for limit, expected in ((0, 4), (6, 6)):  # ours replaces the registered limit, also by a longer one
            with make_env(EnvConfig(name="Mine-v0", time_limit=limit), 0) as env:
                env.reset(ONE)
                lasts = [env.step(np.array([[0, 1, 0]], np.float32))["is_last"][0] for _ in range(expected)]
            assert lasts == [False] * (expected - 1) + [True]
        assert "Mine-v0" in [name for entry in list_envs() for name in entry.ids]
        assert "did you mean Mine-v0" in message("Mne-v0")
        make_env(EnvConfig(name="tests.helpers.environments:Mine-v0"), 0).close()
    finally:
        del gymnasium.registry["Mine-v0"]


def test_an_environment_that_cannot_be_created() -> None:
    def broken() -> Any:
        raise OSError("no display")

    gymnasium.register("Broken-v0", broken)
    try:
        assert "Broken-v0 could not be created: no display" in message("Broken-v0")
    finally:
        del gymnasium.registry["Broken-v0"]
    with pytest.raises(EnvError, match="broken could not create the environment: OSError: no display"):
        make_env(EnvConfig(), 0, broken)
    with pytest.raises(EnvError, match=r"created a builtins\.int\. It is no environment of Gymnasium, dm_env"):
        make_env(EnvConfig(), 0, lambda: 3)  # type: ignore[arg-type, return-value]


def documented(start: str, env: gymnasium.Env) -> gymnasium.Env:
    """Return the environment in the wrapper that the page on own environments gives for a message, typed as it is."""
    page = (Path(__file__).parents[2] / "docs" / "own-environment.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith(f"| `{start}"))
    found = re.search(r"`(gymnasium\.wrappers\.\w+\(env, .*\))`", line)
    assert found, line
    return eval(found.group(1), {"gymnasium": gymnasium, "env": env})


def test_own_environment_page_advice_for_unbounded_actions_works() -> None:
    def unbounded() -> gymnasium.Env:
        return Spaces(action=gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32))

    for factory, has_note in [(unbounded, True), (lambda: documented("The action space", unbounded()), False)]:
        with make_env(EnvConfig(parallel=False), 0, factory) as env:
            assert env.spec.action == ActionSpec("continuous", (1,))
            assert bool(env.spec.notes) == has_note
            env.reset(np.array([True]))
            env.step(np.zeros((1, 1), np.float32))


def test_own_environment_page_advice_for_unbounded_images_works() -> None:
    def depth() -> gymnasium.Env:
        return Spaces(observation=gymnasium.spaces.Box(0, np.inf, (48, 64, 1), np.float32))

    with pytest.raises(EnvError, match=r"Spaces: the image in the observation has no bounds .*TransformObservation"):
        make_env(EnvConfig(), 0, depth)
    with make_env(EnvConfig(parallel=False), 0, lambda: documented("the image in the", depth())) as env:
        assert env.spec.observations["image"].shape == (64, 64, 1)
        env.reset(np.array([True]))


def test_unsupported_spaces_name_the_environment() -> None:
    with pytest.raises(EnvError, match="Spaces: the observation space Text"):
        make_env(EnvConfig(), 0, lambda: Spaces(observation=gymnasium.spaces.Text(3)))
    with pytest.raises(EnvError, match=r"Spaces: the action space Text"):
        make_env(EnvConfig(), 0, lambda: Spaces(action=gymnasium.spaces.Text(3)))


@pytest.mark.parametrize("num_envs", [1, 2])
def test_make_env_sends_notes_and_takes_keys(num_envs: int) -> None:
    grid, view = (gymnasium.spaces.Box(0, 255, shape, np.uint8) for shape in [(7, 7), (20, 20)])
    space = gymnasium.spaces.Dict(grid=grid, mission=gymnasium.spaces.Text(3), view=view)

    def spec_of(**keys: Any) -> EnvSpec:
        config = EnvConfig(num_envs=num_envs, **keys)
        spec = env_spec(config, lambda: Spaces(space))
        with make_env(config, 0, lambda: Spaces(space)) as env:
            assert env.spec == spec and env.spec.notes == spec.notes
        return spec

    spec = spec_of()
    assert [entry.is_image for entry in spec.observations.values()] == [False, True]
    assert len(spec.notes) == 2 and "'grid'" in spec.notes[0] and "'mission'" in spec.notes[1]
    spec = spec_of(image_keys=("grid",), vector_keys=("view",))
    assert [entry.is_image for entry in spec.observations.values()] == [True, False]
    with pytest.raises(EnvError, match=r"Spaces: .* name 'gird'"):
        spec_of(image_keys=("gird",))


def test_env_config_one_key_as_image_and_vector_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"vector_keys is \('a',\), but no key can be in env.image_keys, too"):
        EnvConfig(image_keys=("a", "b"), vector_keys=("a",))


def test_names_of_what_users_pass() -> None:
    assert as_factory("CartPole-v1") == ("CartPole-v1", None)
    assert as_factory(Catch) == ("Catch", Catch)
    assert as_factory(Catch())[0] == "Catch"
    assert as_factory(gymnasium.make("CartPole-v1"))[0] == "CartPole-v1"

    def my_env() -> Catch:
        return Catch(2)

    assert as_factory(my_env) == ("my_env", my_env)
    with pytest.raises(EnvError, match="not int"):
        as_factory(3)


def test_an_instance_is_used_once_and_then_copied() -> None:
    instance = Counting(3)
    _, factory = as_factory(instance)
    train, evaluation = make_env(EnvConfig(), 0, factory), make_env(EnvConfig(), 1, factory)
    train.reset(ONE)
    assert len(instance.seeds) == 1
    evaluation.reset(ONE)
    evaluation.step(np.array([[1, 0]], np.float32))
    assert (len(instance.seeds), instance.steps) == (1, 0)
    with pytest.raises(EnvError, match="one instance of Counting was passed; pass a function"):
        make_env(EnvConfig(num_envs=2), 0, factory)


def test_an_instance_that_cannot_be_copied() -> None:
    instance = Counting(3)
    instance.lock = threading.Lock()  # type: ignore[attr-defined]
    _, factory = as_factory(instance)
    make_env(EnvConfig(), 0, factory)
    with pytest.raises(EnvError, match=r"Counting cannot be copied .*; pass a function"):
        make_env(EnvConfig(), 1, factory)


def test_closing_closes_the_environment() -> None:
    instance = Counting(3)
    make_env(EnvConfig(), 0, lambda: instance).close()
    assert instance.closed


@pytest.mark.parametrize("module", ["torch", "ale_py"])
def test_environments_are_imported_without(module: str) -> None:
    """Worker processes stay small, and Atari stays optional."""
    program = f"import sys, reverie.envs; sys.exit({module!r} in sys.modules)"
    path = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    assert subprocess.run([sys.executable, "-c", program], env=path, check=False).returncode == 0

"""Environments of the current folder by `module:Class`."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from reverie.config import EnvConfig
from reverie.envs import as_factory, choose_env, make_env
from reverie.envs.registry import find_spec
from reverie.errors import EnvError

MODULE = """
import gymnasium, numpy as np
class Line(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (3,))
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}
    def step(self, action):
        import sibling_of_line
        return np.full(3, sibling_of_line.VALUE, np.float32), 1.0, False, True, {}
def make_line():
    return Line()
VERSION = 3
gymnasium.register("Line-v0", Line)
gymnasium.register("HandWave-v0", Line)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "line_module.py").write_text(MODULE)
    (tmp_path / "sibling_of_line.py").write_text("VALUE = 0.5")
    (tmp_path / "broken_module.py").write_text("import not_installed_anywhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    monkeypatch.setattr(gymnasium, "registry", dict(gymnasium.registry))
    monkeypatch.setattr(gymnasium.envs.registration, "registry", gymnasium.registry)
    monkeypatch.delitem(sys.modules, "line_module", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", ["line_module:Line", "line_module:make_line"])
@pytest.mark.parametrize("parallel", [False, True])
def test_as_factory_class_or_function_of_the_current_folder_makes_environments(
    folder: Path, name: str, parallel: bool
) -> None:
    label, factory = as_factory(name)
    assert label == name
    with make_env(EnvConfig(name=label, num_envs=2, parallel=parallel), seed=0, factory=factory) as env:
        env.reset(np.ones(2, bool))
        assert (env.step(np.eye(2, dtype=np.float32))["vector"] == 0.5).all()


@pytest.mark.parametrize("name", ["CartPole-v1", "ALE/Pong-v5", "line_module:Line-v0"])
def test_as_factory_id_is_returned_as_it_is(folder: Path, name: str) -> None:
    assert as_factory(name) == (name, None)
    assert ("line_module" in sys.modules) == name.startswith("line_module")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("line_module:Lime", "line_module has no class or function Lime. Write module:Class"),
        ("line_module:VERSION", "has no class or function VERSION"),
        ("nowhere_module:Line", "nowhere_module:Line cannot be imported .ModuleNotFoundError"),
        ("broken_module:Line", "not_installed_anywhere"),
        (":Line", "cannot be imported"),
    ],
)
def test_as_factory_mistake_is_named(folder: Path, name: str, words: str) -> None:
    with pytest.raises(EnvError, match=words):
        as_factory(name)


def test_find_spec_own_id_that_begins_as_those_of_a_suite_is_found(folder: Path) -> None:
    name = "line_module:HandWave-v0"
    as_factory(name)
    assert find_spec(name).id == find_spec("HandWave-v0").id == "HandWave-v0"


def test_as_factory_in_a_new_process_needs_no_pythonpath(folder: Path) -> None:
    source = str(Path(__file__).parents[2] / "src")
    script = folder / "elsewhere" / "script.py"  # Python puts the script's folder on the path, not the current one
    script.parent.mkdir()
    script.write_text("from reverie.envs import as_factory; print(as_factory('line_module:Line'))")
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True
    )
    assert "line_module.Line" in done.stdout, done.stderr


# --- choose_env ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", ["line_module:Line", "line_module:Line-v0", "CartPole-v1"])
def test_choose_env_name_replaces_the_agents_own(folder: Path, env: str) -> None:
    config, factory = choose_env(EnvConfig(name="Pendulum-v1", time_limit=9), env)
    assert config.name == env and config.time_limit == 9
    assert (factory is None) == env.endswith(("v0", "v1"))
    with make_env(config, 0, factory) as made:
        assert made.spec.action.sizes == (2,)


def test_choose_env_none_is_the_agents_own(folder: Path) -> None:
    config = EnvConfig(name="CartPole-v1")
    assert choose_env(config) == (config, None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Line", "Give it: --env module:Line, or env=Line in Python"),
        ("line_module:Line", "Give it: --env line_module:Line, or env=Line in Python"),
        ("line_module:Line-v0", "its module cannot be imported .No module named 'line_module'"),
    ],
)
def test_choose_env_none_runs_no_code_of_the_current_folder(folder: Path, name: str, words: str) -> None:
    with pytest.raises(EnvError, match=words) as refused:
        make_env(choose_env(EnvConfig(name=name))[0], 0)
    assert "line_module" not in sys.modules and len(str(refused.value)) <= 160

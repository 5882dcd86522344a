"""No dead settings: the program reads every field of the configuration.

The classes are made to note who reads their fields. Two small runs and a look at an Atari game must read all of them;
what reads fields of any class (comparing, saving, setting, checking a value's range) does not count.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.config import Config, EnvConfig, agent, diff, flatten, from_dict, preset, schema, to_dict
from reverie.envs import make_env
from reverie.training import train_config
from reverie.training.offline import Data
from tests.helpers.environments import Catch

PACKAGE = Path(schema.__file__).parents[1]
IGNORED = {PACKAGE / "config", PACKAGE / "cli"}


ON_RAY = ["training.collectors", *(path for path in flatten(Config()) if path.startswith("ray."))]


class Reads:
    """Paths that were read, of configurations that are watched."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self._owners: dict[int, str] = {}
        self._kept: list[Any] = []

    def watch(self, config: Config) -> Config:
        """A copy whose parts are objects of their own, so that each is known by its path."""
        copy = from_dict(to_dict(config))
        self._note(copy, "")
        return copy

    def _note(self, node: Any, prefix: str) -> None:
        self._owners[id(node)] = prefix
        self._kept.append(node)
        for field in fields(node):
            value = object.__getattribute__(node, field.name)
            if is_dataclass(value):
                self._note(value, f"{prefix}{field.name}.")

    def read(self, node: Any, name: str, reader: str) -> None:
        # Changed copies of a part, such as the environment of an evaluation, are known by their class.
        prefix = self._owners.get(id(node), "env." if type(node) is EnvConfig else None)
        source = Path(reader)
        if prefix is None or PACKAGE not in source.parents or {source, source.parent} & IGNORED:
            return
        self.paths.add(prefix + name)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    noted = Reads()

    def noting(self: Any, name: str) -> Any:
        if not name.startswith("__"):
            noted.read(self, name, sys._getframe(1).f_code.co_filename)
        return object.__getattribute__(self, name)

    classes = [kind for module in (schema, agent) for kind in vars(module).values() if is_dataclass(kind)]
    for kind in classes:
        monkeypatch.setattr(kind, "__getattribute__", noting)
        # A clone of a policy keeps the watched parts.
        monkeypatch.setattr(kind, "__deepcopy__", lambda self, memo: self, raising=False)
    yield noted


def test_every_setting_is_read(reads: Reads, tmp_path: Path) -> None:
    tiny = preset("debug").override(steps=120, prefill=100, pretrain=1, train_every=20, log_every=20, threads=1)
    frequent = {"behavior.critic.target_update_interval": 1}  # the first copy is always a full one
    discrete = tiny.override(**{"env.num_envs": 2, "replay.sampling": "episodes", "env.time_limit": 20, **frequent})
    train_config(reads.watch(discrete.for_env("Catch")), tmp_path / "discrete", env_factory=lambda: Catch(4))
    continuous = tiny.for_env("Pendulum-v1").override(
        **{
            "world_model.rssm.latents": "gaussian",
            "world_model.kl.objective": "split",
            "behavior.actor.gradient": "both",
            "behavior.actor.reinforce_weight": 0.9,
            "training.explore": "plan2explore",
        }
    )
    train_config(reads.watch(continuous), tmp_path / "continuous")
    offline = tiny.override(collect="none", steps=8, **{"env.time_limit": 0})
    data = Data(tmp_path / "discrete")
    train_config(reads.watch(offline), tmp_path / "offline", data=data)
    atari = reads.watch(preset("atari").for_env("ALE/Pong-v5"))
    with make_env(atari.env, seed=0) as env:
        env.reset(np.ones(1, bool))
        env.step(np.eye(env.spec.action.size, dtype=np.float32)[:1])
    assert sorted({*flatten(Config())} - {*ON_RAY} - reads.paths) == []


def test_every_setting_of_collectors_on_ray_is_read(reads: Reads, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'reverie[ray]'")
    tiny = preset("debug").override(steps=60, prefill=40, pretrain=1, train_every=20, eval_every=0, threads=1)
    free = {"ray.schedule": "free", "ray.cpus": 0.5}
    train_config(reads.watch(tiny.for_env("Pendulum-v1").override(collect="ray", **free)), tmp_path)
    assert sorted({*ON_RAY} - reads.paths) == []


def test_a_dead_setting_would_be_noticed(reads: Reads, tmp_path: Path) -> None:
    config = reads.watch(replace(Config()))
    assert config.world_model.kl.scale == 1.0  # read by a test, which is no part of the program
    assert diff(config, Config()) == []
    assert not reads.paths
    exec(compile("config.training.steps", str(PACKAGE / "agent.py"), "eval"), {"config": config})
    assert reads.paths == {"training", "training.steps"}

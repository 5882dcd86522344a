"""Gymnasium environments in, vectorised numpy steps out. Start at `make.py`, then `create.py` and `vector.py`."""

from reverie.envs.create import create_env, make_gym_env
from reverie.envs.factories import EnvFactory, InstanceFactory, as_factory, choose_env
from reverie.envs.make import env_spec, make_env
from reverie.envs.registry import list_envs
from reverie.envs.step_wrapper import EnvState, random_state, set_random_state
from reverie.envs.vector import VectorEnv

__all__ = [
    "EnvFactory",
    "EnvState",
    "InstanceFactory",
    "VectorEnv",
    "as_factory",
    "choose_env",
    "create_env",
    "env_spec",
    "list_envs",
    "make_env",
    "make_gym_env",
    "random_state",
    "set_random_state",
]

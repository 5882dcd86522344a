"""Gymnasium environments in, batched numpy steps out."""

from reverie.envs.batched import BatchedEnv
from reverie.envs.catalog import EnvListing, list_envs
from reverie.envs.importing import choose_env, import_env
from reverie.envs.make import EnvFactory, as_factory, env_spec, make_env, make_gym_env
from reverie.envs.state import EnvState, random_state, set_random_state

__all__ = [
    "BatchedEnv",
    "EnvFactory",
    "EnvListing",
    "EnvState",
    "as_factory",
    "choose_env",
    "env_spec",
    "import_env",
    "list_envs",
    "make_env",
    "make_gym_env",
    "random_state",
    "set_random_state",
]

"""Gymnasium environments in, batched numpy steps out."""

from reverie.envs.batched import BatchedEnv
from reverie.envs.catalog import EnvListing, list_envs
from reverie.envs.make import EnvFactory, as_factory, env_spec, make_env

__all__ = ["BatchedEnv", "EnvFactory", "EnvListing", "as_factory", "env_spec", "list_envs", "make_env"]

"""Create one environment, as its user knows it, by name or with a factory."""

import warnings
from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit

from reverie.config import EnvConfig
from reverie.envs import atari, crafter, dmc, minatar, minigrid
from reverie.envs.factories import EnvFactory, InstanceFactory, call_factory
from reverie.envs.headless import choose_mujoco_gl, let_sdl_draw
from reverie.envs.pixels import Rendered, has_image, repeats_actions
from reverie.envs.registry import find_spec, install_hint
from reverie.envs.step_wrapper import Env, RepeatAction, env_name
from reverie.errors import EnvError


def make_gym_env(config: EnvConfig, factory: EnvFactory | None = None, render_mode: str | None = None) -> Env:
    """Create one environment as a plain `gymnasium.Env`, with the action repeat and time limit of a configuration.

    Args:
        config: which environment, and the settings of an agent step.
        factory: creates the environment in place of `config.name`.
        render_mode: Gymnasium's, `human` or `rgb_array`.

    Raises:
        EnvError: as `make_env`, and if the environment does not have that render mode.
    """
    env = create_env(config, factory, render_mode)
    env = RepeatAction(env, repeat) if (repeat := action_repeat(config, env)) > 1 else env
    return TimeLimit(env, config.time_limit) if config.time_limit else env


def create_env(config: EnvConfig, factory: EnvFactory | None = None, render_mode: str | None = None) -> Env:
    """Create one environment as a user knows it; `make_gym_env` has the arguments."""
    env = _create(config, factory, render_mode)
    modes = env.metadata.get("render_modes") or [env.render_mode]
    if render_mode is not None and (env.render_mode != render_mode or render_mode not in modes):
        raise EnvError(
            f"{env_name(env)} has no render mode {render_mode}. It cannot be shown. Let its class take render_mode, "
            "and list it in metadata['render_modes']."
        )
    return observe(config, env, factory)


def _create(config: EnvConfig, factory: EnvFactory | None, render_mode: str | None) -> Env:
    if render_mode == "rgb_array":
        let_sdl_draw()
        choose_mujoco_gl()
    return _from_name(config, render_mode) if factory is None else call_factory(factory, render_mode)


def observe(config: EnvConfig, env: Env, factory: EnvFactory | None) -> Env:
    """Return the environment with the observations that the configuration names."""
    if config.observations not in ("pixels", "both") or has_image(env, config):
        return env
    if env.render_mode == "human":
        raise EnvError(
            f"{env_name(env)} draws in a window. The agent observes its pictures, and gets none. "
            "Give it render_mode='rgb_array', and watch a video in place of the window."
        )
    if env.render_mode is None and not isinstance(factory, InstanceFactory):
        env.close()
        env = _create(config, factory, "rgb_array")
    return Rendered(RepeatAction(env, action_repeat(config, env)), config.observations, env_name(env))


def action_repeat(config: EnvConfig, env: Env) -> int:
    """Return how often a wrapper repeats actions; some environments, such as ale-py's games, repeat them themselves."""
    if env.spec is not None and env.spec.entry_point == atari.ENTRY_POINT and env.spec.kwargs.get("frameskip") != 1:
        return 1
    own = env.unwrapped
    is_repeating_suite = isinstance(own, dmc.ControlSuite) and own.action_repeat > 1
    repeats_itself = isinstance(own, atari.Atari) or is_repeating_suite or repeats_actions(env)
    return 1 if repeats_itself else config.action_repeat


def _from_name(config: EnvConfig, render_mode: str | None) -> Env:
    spec = find_spec(config.name)
    if spec.entry_point == atari.ENTRY_POINT and spec.namespace == "ALE":
        return atari.Atari(spec.kwargs["game"], config, render_mode)
    if spec.entry_point == minatar.ENTRY_POINT:
        return minatar.MinAtar(spec.kwargs["game"], spec.kwargs["use_minimal_action_set"], render_mode)
    # env.time_limit replaces the registered limit; -1 removes that.
    limit = -1 if config.time_limit else None
    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    if spec.namespace in (dmc.NAMESPACE, crafter.NAMESPACE):
        options["has_time_limit"] = not config.time_limit
    if spec.namespace == dmc.NAMESPACE:
        options["observations"] = "state" if config.observations == "auto" else config.observations
        options["action_repeat"] = config.action_repeat
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            # Returned values are checked by `StepWrapper`, with better messages.
            env = gymnasium.make(spec, limit, disable_env_checker=True, **options)
    except EnvError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise EnvError(f"{config.name} could not be created: {reason}.{install_hint(spec)}") from error
    is_grid = spec.id.startswith(minigrid.PREFIXES)
    return minigrid.add_agent_view(env) if is_grid and config.observations == "auto" else env

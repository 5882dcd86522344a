"""Crafter by the protocol of the authors' release. The only module that knows the package crafter.

Hafner, "Benchmarking the Spectrum of Agent Capabilities", 2021. crafter is imported when the first world is created, so
that everything else works without it.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

NAMESPACE = "crafter"
"""Namespace of the ids, `crafter/reward` and `crafter/noreward`."""

WINDOW = 100
"""Number of latest episodes over which `info` has the score."""

Image = NDArray[np.uint8]


class Crafter(gymnasium.Env[Image, np.int64]):
    """One world of Crafter after the other: image `[64, 64, 3]` uint8, 17 actions.

    Death terminates an episode; the limit of 10,000 steps truncates it. The `info` of every step has

    - `achievements`: by name 1.0 if it was unlocked in this episode, else 0.0,
    - `num_achievements`: their sum,
    - `return`: sum of Crafter's own rewards in this episode, also where the agent gets none,
    - `score`: the Crafter score over this episode and up to 99 before it, see `crafter_score`.

    Args:
        has_reward: False gives the agent no rewards.
        has_time_limit: False removes the limit.
        render_mode: `rgb_array` lets `render` return a picture of 512x512 pixels.

    Source: `common/envs.py:Crafter` of the release.
    """

    def __init__(self, has_reward: bool = True, has_time_limit: bool = True, render_mode: str | None = None) -> None:
        import crafter

        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
        self.render_mode = render_mode
        self._new_world = _repeatable(crafter.Env)
        self._options = {"reward": has_reward, "length": 10_000 if has_time_limit else None}
        self._names: list[str] = list(crafter.constants.achievements)
        self._latest: deque[list[float]] = deque(maxlen=WINDOW)
        self.observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
        self._actions: list[str] = list(crafter.constants.actions)
        self.action_space = spaces.Discrete(len(self._actions))

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, as `move_left`."""
        return list(self._actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Image, dict[str, Any]]:
        """Start an episode in a new world."""
        super().reset(seed=seed)
        self._world = self._new_world(**self._options, seed=int(self.np_random.integers(1 << 31)))
        self._return = 0.0
        self._latest.append([0.0] * len(self._names))
        return self._world.reset(), self._info({})

    def step(self, action: SupportsIndex) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """Take a step."""
        image, reward, is_over, info = self._world.step(action)
        self._return += info["reward"]
        is_dead = info["discount"] == 0
        return image, float(reward), is_dead, bool(is_over) and not is_dead, self._info(info["achievements"])

    def render(self) -> Image | None:
        """Return a picture `[512, 512, 3]` in render mode `rgb_array`."""
        return np.asarray(self._world.render((512, 512))) if self.render_mode == "rgb_array" else None

    def _info(self, counts: Mapping[str, int]) -> dict[str, Any]:
        unlocked = self._latest[-1] = [float(counts.get(name, 0) > 0) for name in self._names]
        return {
            "achievements": dict(zip(self._names, unlocked, strict=True)),
            "num_achievements": sum(unlocked),
            "return": self._return,
            "score": crafter_score(np.mean(self._latest, 0).tolist()),
        }


def crafter_score(success_rates: Sequence[float]) -> float:
    """Return the Crafter score in percent: exp(mean(log(1 + 100 p))) - 1.

    Args:
        success_rates: for each achievement the share of episodes in [0, 1] that unlocked it.
    """
    return float(np.expm1(np.log1p(100 * np.asarray(success_rates)).mean()))


def register() -> None:
    """Register `crafter/reward` and `crafter/noreward` in Gymnasium."""
    if f"{NAMESPACE}/reward" in gymnasium.registry:
        return
    for name in ("reward", "noreward"):
        gymnasium.register(f"{NAMESPACE}/{name}", f"{__name__}:Crafter", kwargs={"has_reward": name == "reward"})


def _repeatable(base: Any) -> Any:
    """Return crafter's class with worlds that depend on seed and actions alone.

    The package chooses creatures to remove from a set, whose order depends on the memory's addresses.
    """

    class World(base):  # type: ignore[misc]
        def _balance_object(self, chunk: Any, objs: Any, *args: Any) -> None:
            super()._balance_object(chunk, sorted(objs, key=lambda obj: tuple(obj.pos)), *args)

    return World

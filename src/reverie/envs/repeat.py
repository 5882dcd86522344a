"""Action repeat as a Gymnasium wrapper."""

from typing import Any

import gymnasium


class RepeatAction(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that takes each action several times and sums the rewards; fewer where the episode ends.

    Args:
        env: the environment.
        times: steps per action.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], times: int) -> None:
        super().__init__(env)
        self._times = times

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Repeat an action."""
        total = 0.0
        for _ in range(self._times):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info

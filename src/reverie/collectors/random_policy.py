"""Random actions."""

from typing import Any

import numpy as np

from reverie.collectors.collector import Actions
from reverie.specs import ActionSpec, Step


class RandomPolicy:
    """Uniform random actions, each held for a random number of steps.

    The number n is 1 to `max_hold` with probabilities proportional to n^-2, the zeta distribution of temporally
    extended exploration (Dabney et al., 2021).
    """

    def __init__(self, action: ActionSpec, rng: np.random.Generator, max_hold: int = 1) -> None:
        self._action = action
        self._rng = rng
        self._one_hot = [np.eye(size, dtype=np.float32) for size in action.sizes if action.kind == "discrete"]
        weights = np.arange(1, max_hold + 1) ** -2.0
        self._hold_probabilities = weights / weights.sum()
        self._held = np.zeros((0, action.size), np.float32)
        self._remaining = np.zeros(0, int)

    def __call__(self, step: Step, /) -> Actions:
        """Choose one action for each environment."""
        num_envs = len(step["is_first"])
        if len(self._hold_probabilities) == 1:
            return self._draw(num_envs)
        if len(self._held) != num_envs:
            self._held, self._remaining = self._draw(num_envs), np.zeros(num_envs, int)
        due = self._remaining == 0
        self._held[due] = self._draw(int(due.sum()))
        self._remaining[due] = 1 + self._rng.choice(
            len(self._hold_probabilities), due.sum(), p=self._hold_probabilities
        )
        self._remaining -= 1
        return self._held.copy()

    def _draw(self, count: int) -> Actions:
        if self._action.kind == "continuous":
            return self._rng.uniform(-1, 1, (count, self._action.size)).astype(np.float32)
        return np.concatenate([rows[self._rng.integers(len(rows), size=count)] for rows in self._one_hot], -1)

    def state(self) -> dict[str, Any]:
        """Return the state in JSON's types."""
        held, remaining = self._held.tolist(), self._remaining.tolist()
        return {"rng": self._rng.bit_generator.state, "held": held, "remaining": remaining}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self._rng.bit_generator.state = state["rng"]
        self._held = np.array(state["held"], np.float32).reshape(-1, self._action.size)
        self._remaining = np.array(state["remaining"], int)

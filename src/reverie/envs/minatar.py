"""MinAtar's five games as pictures. The only module that knows the package minatar.

Young and Tian, "MinAtar: An Atari-Inspired Testbed for Thorough and Reproducible Reinforcement Learning Experiments",
2019. minatar is imported when the first game is created, so that everything else works without it.
"""

import json
from collections.abc import Mapping
from typing import Any, SupportsIndex

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from reverie.envs.images import IMAGE_SIZE
from reverie.errors import EnvError

ENTRY_POINT = "minatar.gym:BaseEnv"
"""Entry point of minatar's registered ids."""

_HEX = "000000 00dc5a ffffff 5a5a6e e63c28 fac800 3c6eff c846e6 00d2e6 965a1e ff96be"
COLORS = np.array([list(bytes.fromhex(color)) for color in _HEX.split()], np.uint8)
"""Colour of an empty cell, then of a game's objects, one for each channel of its state."""

MEANINGS = {"n": "NOOP", "l": "LEFT", "u": "UP", "r": "RIGHT", "d": "DOWN", "f": "FIRE"}
"""Names of the package's actions."""

_CONSTANT = ("channels", "action_map", "ramping", "random")
"""Attributes of a game of the package that are not part of its state."""

Image = NDArray[np.uint8]


class MinAtar(gymnasium.Env[Image, np.int64]):
    """One MinAtar game: image `[64, 64, 3]` uint8, everything else as the package has it.

    The package gives a grid of 10x10 cells with one channel for each kind of object. Here every object is a square of a
    colour of its own, and where several share a cell the one of the highest channel is seen, as on the package's own
    display. Sticky actions (0.1) and rising difficulty are the package's defaults.

    Args:
        game: the package's name of it, for example `space_invaders`.
        minimal_actions: only the actions that have an effect in this game (ids ending in -v1), not all 6 (-v0).
        render_mode: `rgb_array` lets `render` return the image, enlarged.
    """

    def __init__(self, game: str, minimal_actions: bool = True, render_mode: str | None = None) -> None:
        from minatar import Environment

        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 15}
        self.render_mode = render_mode if render_mode == "rgb_array" else None
        self._game = Environment(game)
        self._actions = self._game.minimal_action_set() if minimal_actions else list(range(self._game.num_actions()))
        rows, columns, channels = self._game.state_shape()
        if channels >= len(COLORS):
            raise EnvError(f"minatar's game '{game}' has {channels} kinds of objects, more than there are colours.")
        self._rank = np.arange(1, channels + 1, dtype=np.int64)
        self._cell = min(IMAGE_SIZE[0] // rows, IMAGE_SIZE[1] // columns)
        top, left = (IMAGE_SIZE[0] - rows * self._cell) // 2, (IMAGE_SIZE[1] - columns * self._cell) // 2
        self._inside = (slice(top, top + rows * self._cell), slice(left, left + columns * self._cell))
        self.observation_space = spaces.Box(0, 255, (*IMAGE_SIZE, 3), np.uint8)
        self.action_space = spaces.Discrete(len(self._actions))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Image, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        if seed is not None:
            self._game.seed(seed)
            self._game.last_action = 0  # what sticks at first
        self._game.reset()
        return self._image(), {}

    def step(self, action: SupportsIndex) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """One frame; `truncated` is always False."""
        reward, done = self._game.act(self._actions[action])
        return self._image(), float(reward), bool(done), False, {}

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, as Atari environments do."""
        return [MEANINGS[self._game.env.action_map[action]] for action in self._actions]

    def render(self) -> Image | None:
        """Return the image, each pixel as 5x5, in render mode `rgb_array`."""
        return self._image().repeat(5, 0).repeat(5, 1) if self.render_mode == "rgb_array" else None

    def save_state(self) -> dict[str, NDArray[Any]]:
        """Return the game's attributes, the action that may stick, and the random generator."""
        kind, keys, *random = self._game.random.get_state()
        values = {name: value for name, value in vars(self._game.env).items() if name not in _CONSTANT}
        arrays = {f"game/{name}": value.copy() for name, value in values.items() if isinstance(value, np.ndarray)}
        others = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
        rest = {"game": others, "last_action": int(self._game.last_action), "random": [kind, *random]}
        text = np.frombuffer(json.dumps(rest, default=lambda value: value.item()).encode(), np.uint8)
        return {**arrays, "random": keys, "rest": text}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a state of the same game."""
        rest = json.loads(state["rest"].tobytes())
        kind, *random = rest["random"]
        self._game.random.set_state((kind, state["random"], *random))
        self._game.env.random = self._game.random
        self._game.last_action = rest["last_action"]
        vars(self._game.env).update(rest["game"])
        for name, value in state.items():
            if name.startswith("game/"):
                setattr(self._game.env, name.removeprefix("game/"), value.copy())

    def _image(self) -> Image:
        top_object = (self._game.state() * self._rank).max(2)
        image = np.zeros((*IMAGE_SIZE, 3), np.uint8)
        image[self._inside] = COLORS[top_object].repeat(self._cell, 0).repeat(self._cell, 1)
        return image

"""Atari games by the protocol of the authors' release (SPEC 49 to 51). The only module that knows ale-py.

ale-py is imported when the first game is created, so that everything else works without it.
"""

from collections.abc import Mapping
from typing import Any, SupportsIndex

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from reverie.config import EnvConfig
from reverie.envs.images import IMAGE_SIZE, resize
from reverie.envs.step_wrapper import random_state, set_random_state
from reverie.errors import EnvError

ENTRY_POINT = "ale_py.env:AtariEnv"
"""Entry point of ale-py's registered ids."""

Image = NDArray[np.uint8]


class Atari(gymnasium.Env[Image, np.int64]):
    """One Atari game: image `[64, 64, 1 or 3]` uint8, raw rewards, no life loss, no FIRE at the start.

    A step repeats its action for `action_repeat` emulator frames and sums their rewards, without clipping. Sticky
    actions act on every emulator frame; they are drawn here, by the law of the emulator's own, since it does not tell
    which action it holds and so could not be saved. The image is the maximum of the last two frames, resized from the
    full screen by averaging areas. An episode starts with 1 to `noop_max` idle frames. Game over terminates; there is
    no time limit. Where the game ends within a step, its screen is not read any more, as in the release: the last image
    is the one before, joined (if the game ended on the very last frame) by the frame before that.

    Args:
        game: ale-py's name of the ROM, for example `ms_pacman`.
        config: the settings of Atari games.
        render_mode: `human` opens the emulator's window; `rgb_array` lets `render` return the screen.

    Source: `common/envs.py:Atari` of the release, and Gym 0.18's `AtariPreprocessing`.
    """

    def __init__(self, game: str, config: EnvConfig, render_mode: str | None = None) -> None:
        import ale_py

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale, self._state_class = ale_py.ALEInterface(), ale_py.ALEState
        self._config, self.render_mode = config, render_mode
        self.metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 60 // config.action_repeat}
        self._ale.setBool("display_screen", render_mode == "human")
        self._ale.setFloat("repeat_action_probability", 0.0)
        rom = ale_py.roms.get_rom_path(game)
        if rom is None:
            raise EnvError(f"ale-py has no ROM of the game '{game}'.")
        self._rom = rom
        self._ale.loadROM(rom)
        self._actions = self._ale.getLegalActionSet() if config.full_action_space else self._ale.getMinimalActionSet()
        self._idle = self._held = ale_py.Action.NOOP
        self._grab_screen = self._ale.getScreenGrayscale if config.grayscale else self._ale.getScreenRGB
        channels = () if config.grayscale else (3,)
        # The pooled image of the last whole step, and the frame before its last.
        self._pooled = np.zeros((*self._ale.getScreenDims(), *channels), np.uint8)
        self._previous = np.zeros_like(self._pooled)
        self.observation_space = spaces.Box(0, 255, (*IMAGE_SIZE, *(channels or (1,))), np.uint8)
        self.action_space = spaces.Discrete(len(self._actions))

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, as `UPRIGHTFIRE`."""
        return [action.name for action in self._actions]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Image, dict[str, Any]]:
        """Start an episode. A seed also restarts the emulator, which reads its own seed only when it loads the game."""
        super().reset(seed=seed)
        if seed is not None:
            self._ale.setInt("random_seed", int(self.np_random.integers(2**31)))
            self._ale.loadROM(self._rom)
        self._ale.reset_game()
        self._held, noops = self._idle, self._config.noop_max
        for _ in range(self.np_random.integers(1, noops + 1) if noops else 0):
            self._ale.act(self._idle)
            if self._ale.game_over(with_truncation=False):
                self._ale.reset_game()
        self._grab_screen(self._pooled)
        self._previous.fill(0)
        return self._image(), {}

    def step(self, action: SupportsIndex) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """Repeat the action; `truncated` is always False."""
        emulator_action, stickiness = self._actions[action], self._config.sticky_actions
        reward = 0
        for frames_left in reversed(range(self._config.action_repeat)):
            if stickiness == 0 or self.np_random.random() >= stickiness:
                self._held = emulator_action
            reward += self._ale.act(self._held)
            if self._ale.game_over(with_truncation=False):
                self._pool()
                return self._image(), float(reward), True, False, {}
            if frames_left == 1:
                self._grab_screen(self._previous)
        self._grab_screen(self._pooled)
        self._pool()
        return self._image(), float(reward), False, False, {}

    def render(self) -> Image | None:
        """Return the console's screen [H, 160, 3] in render mode `rgb_array`."""
        return np.asarray(self._ale.getScreenRGB(), np.uint8) if self.render_mode == "rgb_array" else None

    def save_state(self) -> dict[str, NDArray[np.uint8]]:
        """Return emulator and its random generator, held action, screens, and `np_random`."""
        emulator = self._ale.cloneState(include_rng=True).serialize()
        return {
            "emulator": np.frombuffer(emulator, np.uint8),
            "held": np.array([self._held.value], np.uint8),
            "random": random_state(self.np_random),
            "pooled": self._pooled.copy(),
            "previous": self._previous.copy(),
        }

    def load_state(self, state: Mapping[str, NDArray[np.uint8]]) -> None:
        """Continue from a state of the same game with the same settings."""
        self._ale.reset_game()
        self._ale.act(self._idle)  # Q*bert and Tetris continue otherwise where no frame has been drawn yet.
        self._ale.restoreState(self._state_class(state["emulator"].tobytes()))
        self._held = type(self._idle)(int(state["held"][0]))
        set_random_state(self.np_random, state["random"])
        self._pooled[...] = state["pooled"]
        self._previous[...] = state["previous"]

    def _pool(self) -> None:
        if self._config.action_repeat > 1:
            np.maximum(self._pooled, self._previous, out=self._pooled)

    def _image(self) -> Image:
        return resize(self._pooled.reshape(*self._pooled.shape[:2], -1))


def screens_to_images(screens: Image, shape: tuple[int, ...]) -> Image:
    """Convert console screens of `gymnasium.make("ALE/…")` to images as `Atari` returns them, but for pooling.

    Args:
        screens: uint8 [H, 160, 3], or a batch of these; anything else is returned unchanged.
        shape: of an image, (64, 64, 1 or 3).
    """
    if screens.dtype != np.uint8 or screens.shape[-2:] != (160, 3) or screens.ndim not in (3, 4):
        return screens
    images = []
    for screen in screens.reshape(-1, *screens.shape[-3:]):
        images.append(resize(cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY)[:, :, None] if shape[2] == 1 else screen))
    return np.array(images, np.uint8).reshape(*screens.shape[:-3], *shape)

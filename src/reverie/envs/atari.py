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

from reverie.envs.state import random_state, set_random_state
from reverie.errors import EnvError

ENTRY_POINT = "ale_py.env:AtariEnv"
"""How ale-py's registered ids are recognised."""

_SCREEN_WIDTH = 160
Image = NDArray[np.uint8]


class Atari(gymnasium.Env[Image, np.int64]):
    """One Atari game: image `[64, 64, 1 or 3]` uint8, raw rewards, no life loss, no FIRE at the start.

    A step repeats its action for `action_repeat` emulator frames and sums their rewards, without clipping. Sticky
    actions act on every emulator frame; they are drawn here, by the law of the emulator's own, since it does not tell
    which action it holds and so could not be saved. The image is the maximum of the last two frames, resized from the
    full screen by averaging areas. An episode starts with 1 to `noops` idle frames. Game over terminates; there is no
    time limit.

    Where the game ends within a step, the release does not look at the screen any more, and neither does this: the
    last image is the one before, joined (if the game ended on the very last frame) by the frame before the end.

    Args:
        game: ale-py's name of the ROM, for example `ms_pacman`.
        action_repeat: emulator frames per step.
        sticky_actions: probability at each emulator frame that the action of the frame before is repeated.
        noops: largest number of idle frames at the start; 0 for none.
        grayscale: one channel instead of three.
        full_action_space: all 18 actions instead of those that the game uses.
        image_size: height and width of the image.
        mode: game mode of the console, where the default is not wanted.
        difficulty: its difficulty switch, likewise.
        render_mode: `human` opens the emulator's window; `rgb_array` lets `render` return the screen.

    Source: `common/envs.py:Atari` of the release, and Gym 0.18's `AtariPreprocessing`.
    """

    def __init__(
        self,
        game: str,
        action_repeat: int = 4,
        sticky_actions: float = 0.25,
        noops: int = 30,
        grayscale: bool = True,
        full_action_space: bool = False,
        image_size: tuple[int, int] = (64, 64),
        mode: int | None = None,
        difficulty: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        import ale_py
        from ale_py import roms

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = ale_py.ALEInterface()
        self._state_class = ale_py.ALEState
        self.render_mode = render_mode
        self.metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 60 // action_repeat}
        self._ale.setBool("display_screen", render_mode == "human")
        self._ale.setFloat("repeat_action_probability", 0.0)
        rom = roms.get_rom_path(game)
        if rom is None:
            raise EnvError(f"ale-py has no ROM of the game '{game}'.")
        self._rom = rom
        self._mode, self._difficulty = mode, difficulty
        self._load()
        self._actions = self._ale.getLegalActionSet() if full_action_space else self._ale.getMinimalActionSet()
        self._idle = self._held = ale_py.Action.NOOP
        self._sticky_actions = sticky_actions
        self._action_repeat = action_repeat
        self._noops = noops
        self._grab_screen = self._ale.getScreenGrayscale if grayscale else self._ale.getScreenRGB
        channels = () if grayscale else (3,)
        # The pooled image of the last whole step, and the frame before its last.
        self._pooled = np.zeros((*self._ale.getScreenDims(), *channels), np.uint8)
        self._previous = np.zeros_like(self._pooled)
        self._height, self._width = image_size
        shape = (*image_size, 1 if grayscale else 3)
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Discrete(len(self._actions))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Image, dict[str, Any]]:
        """Start an episode. A seed also restarts the emulator, which reads its own seed only when it loads the game."""
        super().reset(seed=seed)
        if seed is not None:
            self._ale.setInt("random_seed", int(self.np_random.integers(2**31)))
            self._load()
        self._ale.reset_game()
        self._held = self._idle
        for _ in range(self.np_random.integers(1, self._noops + 1) if self._noops else 0):
            self._ale.act(self._idle)
            if self._ale.game_over(with_truncation=False):
                self._ale.reset_game()
        self._grab_screen(self._pooled)
        self._previous.fill(0)
        return self._image(), {}

    def step(self, action: SupportsIndex) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """Repeat the action; `truncated` is always False."""
        emulator_action = self._actions[action]
        reward = 0
        for frames_left in reversed(range(self._action_repeat)):
            if not self._sticks():
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
        """Everything that decides what happens next: emulator and its random generator, screens, `np_random`."""
        emulator = self._ale.cloneState(include_rng=True).serialize()
        return {
            "emulator": np.frombuffer(emulator, np.uint8),
            "held": np.array([self._held.value], np.uint8),
            "random": random_state(self.np_random),
            "pooled": self._pooled.copy(),
            "previous": self._previous.copy(),
        }

    def load_state(self, state: Mapping[str, NDArray[np.uint8]]) -> None:
        """Go on where a game that was made alike stood."""
        self._ale.reset_game()
        self._ale.act(self._idle)  # Q*bert and Tetris go on otherwise where no frame has been drawn yet.
        self._ale.restoreState(self._state_class(state["emulator"].tobytes()))
        self._held = type(self._idle)(int(state["held"][0]))
        set_random_state(self.np_random, state["random"])
        self._pooled[...] = state["pooled"]
        self._previous[...] = state["previous"]

    def _sticks(self) -> bool:
        """Whether the next frame repeats the action of the one before."""
        return self._sticky_actions > 0 and self.np_random.random() < self._sticky_actions

    def _load(self) -> None:
        self._ale.loadROM(self._rom)
        if self._mode is not None:
            self._ale.setMode(self._mode)
        if self._difficulty is not None:
            self._ale.setDifficulty(self._difficulty)

    def _pool(self) -> None:
        if self._action_repeat > 1:
            np.maximum(self._pooled, self._previous, out=self._pooled)

    def _image(self) -> Image:
        image = cv2.resize(self._pooled, (self._width, self._height), interpolation=cv2.INTER_AREA)
        return np.asarray(image, np.uint8).reshape(self._height, self._width, -1)


def screen_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of one console screen, [H, 160] or [H, 160, 3], given that of one or several; else None."""
    for num_axes, end in ((3, (_SCREEN_WIDTH, 3)), (2, (_SCREEN_WIDTH,))):
        if shape[-len(end) :] == end and num_axes <= len(shape) <= num_axes + 1:
            return shape[-num_axes:]
    return None


def screen_to_image(screen: Image, shape: tuple[int, ...]) -> Image:
    """Convert a console screen of `gymnasium.make("ALE/…")` to an image as `Atari` returns it, but for pooling.

    Args:
        screen: uint8 [H, 160, 3], or [H, 160] for an image of one channel.
        shape: of the image, (height, width, 1 or 3).
    """
    height, width, channels = shape
    if channels == 1 and screen.ndim == 3:
        screen = np.asarray(cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY), np.uint8)
    image = cv2.resize(screen, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(image, np.uint8).reshape(shape)

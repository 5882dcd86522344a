"""Graphics on machines without a screen."""

import importlib.util
import os
import subprocess
import sys
from functools import cache

HAS_SCREEN = sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ


def let_pyglet_draw() -> None:
    """Let pyglet, which MiniWorld draws with, do without a screen where there is none; before it is imported."""
    if not HAS_SCREEN:
        os.environ.setdefault("PYGLET_HEADLESS", "true")


def let_sdl_draw() -> None:
    """Let SDL, which pygame draws with, do without a screen where there is none. It opens no windows then."""
    if not HAS_SCREEN:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


@cache
def choose_mujoco_gl() -> None:
    """Set MUJOCO_GL where it is not set and there is no screen: to `egl` or `osmesa`, or `off` where neither works.

    It must be called before MuJoCo's graphics are imported. Each library is tried in a process of its own, since one
    that fails would remain loaded. Worker processes inherit the variable.
    """
    if not ("MUJOCO_GL" in os.environ or HAS_SCREEN or importlib.util.find_spec("mujoco") is None):
        os.environ["MUJOCO_GL"] = next(filter(_works, ("egl", "osmesa")), "off")


def _works(library: str) -> bool:
    program = "import mujoco; mujoco.GLContext(8, 8).make_current()"
    env = {**os.environ, "MUJOCO_GL": library}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, check=False).returncode == 0

"""The DeepMind Control Suite by the protocol of the authors' release. The only module that knows dm_control.

dm_control is imported when the suite is registered, so that everything else works without it.
"""

import logging
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.envs.headless import choose_mujoco_gl
from reverie.envs.images import IMAGE_SIZE
from reverie.envs.wrap_other import DmEnv
from reverie.errors import EnvError

NAMESPACE = "dmc"
"""Namespace of the ids, `dmc/DOMAIN-TASK`."""

CAMERAS = {"quadruped": 2, "dog-fetch": 2}
"""Camera of a domain or task; 0 for the others. dog-fetch is not in the release; its camera 0 is the ball's."""


class ControlSuite(DmEnv):
    """One task of the suite.

    Observations are the task's own vectors by name (`state`), an image of 64x64 pixels (`pixels`), or the vectors and
    the image under the key `image` (`both`). An episode of 1,000 environment steps is truncated; of the suite's tasks
    only few terminate.

    Args:
        domain: for example `walker`.
        task: for example `run`.
        observations: what is observed. Pictures are only drawn where they are observed.
        action_repeat: environment steps per step; their rewards are summed, and the last picture is drawn.
        has_time_limit: False removes the suite's limit.
        render_mode: `rgb_array`; `render` returns pictures in either case.

    Raises:
        EnvError: if pictures are observed and the machine cannot draw any.

    Source: `common/envs.py:DMC` of the release.
    """

    def __init__(
        self,
        domain: str,
        task: str,
        observations: Literal["state", "pixels", "both"] = "state",
        action_repeat: int = 1,
        has_time_limit: bool = True,
        render_mode: str | None = None,
    ) -> None:
        from dm_control import suite

        options: dict[str, Any] = {"random": 0}  # lqr draws its model with it; episodes are seeded at every reset
        if not has_time_limit:
            options["time_limit"] = float("inf")
        camera = CAMERAS.get(domain, CAMERAS.get(f"{domain}-{task}", 0))
        super().__init__(suite.load(domain, task, options), camera, action_repeat)
        self._observations = observations
        if observations != "state":
            self._try_to_render()
            image = spaces.Box(0, 255, (*IMAGE_SIZE, 3), np.uint8)
            own = self.observation_space
            self.observation_space = image
            if observations == "both" and isinstance(own, spaces.Dict):
                self.observation_space = spaces.Dict([*own.spaces.items(), ("image", image)])

    def _observe(self, observation: Any) -> Any:
        if self._observations == "state":
            return observation
        image = self.render(*IMAGE_SIZE)
        return image if self._observations == "pixels" else {**observation, "image": image}

    def _try_to_render(self) -> None:
        try:
            self.render(*IMAGE_SIZE)
        except Exception as error:
            raise EnvError(
                "MuJoCo can draw no pictures here, with EGL or OSMesa. Install libegl1 or libosmesa6, or train from "
                "states: --preset dmc-proprio --env.observations state."
            ) from error


def register() -> None:
    """Register every task of the suite in Gymnasium, `dmc/walker-walk` and so on, and import dm_control."""
    if f"{NAMESPACE}/walker-walk" in gymnasium.registry:
        return
    choose_mujoco_gl()
    logging.getLogger("absl").setLevel(logging.ERROR)  # warnings about the suite's own models
    from dm_control import suite

    for domain, task in suite.ALL_TASKS:
        options = {"domain": domain, "task": task}
        gymnasium.register(f"{NAMESPACE}/{domain}-{task}", f"{__name__}:ControlSuite", kwargs=options)

"""MiniGrid and BabyAI as pictures."""

import numpy as np
import pytest

from reverie.config import EnvConfig, default_preset
from reverie.envs import env_spec, make_env

pytest.importorskip("minigrid")


@pytest.mark.parametrize("name", ["MiniGrid-DoorKey-8x8-v0", "BabyAI-GoToRedBall-v0"])
def test_agents_view_is_a_picture_and_the_mission_is_dropped(name: str) -> None:
    with make_env(EnvConfig(name=name), 0) as env:
        assert {key: entry.shape for key, entry in env.spec.observations.items()} == {
            "direction": (4,),
            "image": (64, 64, 3),
        }
        assert any("mission" in note for note in env.spec.notes)
        image = env.reset(np.array([True]))["image"][0]
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 5


def test_other_observations_are_the_grid_and_the_whole_picture() -> None:
    state, pixels = (env_spec(EnvConfig(name="MiniGrid-Empty-8x8-v0", observations=o)) for o in ("state", "pixels"))
    assert {key: entry.shape for key, entry in state.observations.items()} == {"direction": (4,), "image": (147,)}
    assert {key: entry.shape for key, entry in pixels.observations.items()} == {"image": (64, 64, 3)}


def test_default_preset_reads_pictures() -> None:
    assert default_preset("MiniGrid-Empty-8x8-v0", env_spec, {}).name == "crafter"

"""Files 14: decisions, with an episode that ends on the way."""

from collections.abc import Callable
from typing import Any

import pytest

from reverie.dreamer import Dreamer
from tests.parity.compare import DEVICE, FORWARD, LoadGolden, LoadWeights, close, close_state, group, tensor
from tests.parity.configs import ACTIONS, config, env_spec

# The files have no weights for what acting does not need.
UNSET = ("world_model.decoder.", "world_model.reward_head.", "world_model.discount_head.")
UNSET += ("actor_critic.critic.", "actor_critic.target_critic.")
FILES = {"14_policy_atari": "atari", "14b_policy_dmc": "dmc", "14c_policy_crafter": "crafter"}


@pytest.mark.parametrize("cloned", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_policy_four_decisions_are_those_of_the_release(
    golden: LoadGolden, load: LoadWeights, convert: Callable[[Any], Any], name: str, cloned: bool
) -> None:
    arrays = golden(name)
    kind = FILES[name]
    agent = Dreamer(config(kind), env_spec(ACTIONS[kind]), device=DEVICE)
    load(agent, group(arrays, "param/"), unset=UNSET)
    policy = convert(agent.recurrent_policy.clone()) if cloned else agent.recurrent_policy
    observations, latents = group(arrays, "obs/"), group(arrays, "latent/")
    state = None
    for t in range(arrays["action"].shape[1]):
        state = policy({key: tensor(array[:, t]) for key, array in observations.items()}, state, "mode")
        close(state.action, arrays["action"][:, t], FORWARD, f"action {t}")
        close_state(state.latent, {key: array[:, t] for key, array in latents.items()}, "")

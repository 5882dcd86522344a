"""Files 14: decisions, with an episode that ends on the way."""

import pytest

from reverie.agent import Dreamer
from tests.parity.compare import FORWARD, LoadGolden, close, close_state, group
from tests.parity.configs import ACTIONS, config, env_spec
from tests.parity.weights import load

# The files have no weights for what acting does not need.
UNSET = ("world_model.decoder.", "world_model.reward_head.", "world_model.discount_head.")
UNSET += ("behavior.critic.", "behavior.target_critic.")
FILES = {"14_policy_atari": "atari", "14b_policy_dmc": "dmc", "14c_policy_crafter": "crafter"}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_four_decisions(golden: LoadGolden, name: str, frozen: bool) -> None:
    arrays = golden(name)
    kind = FILES[name]
    agent = Dreamer(config(kind), env_spec(ACTIONS[kind]))
    load(agent, group(arrays, "param/"), unset=UNSET)
    player = agent.player.frozen() if frozen else agent
    observations, latents = group(arrays, "obs/"), group(arrays, "latent/")
    state = None
    for t in range(arrays["action"].shape[1]):
        observation = {key: array[:, t] for key, array in observations.items()}
        action, state = player.act(observation, state, deterministic=True, sample=False)
        close(action, arrays["action"][:, t], FORWARD, f"action {t}")
        close_state(state.latent, {key: array[:, t] for key, array in latents.items()}, "")

"""Files 13: four complete training steps."""

import pytest

from reverie.dreamer import Dreamer
from tests.parity.compare import (
    DEVICE,
    FORWARD,
    GRADIENT,
    LoadGolden,
    LoadWeights,
    close,
    close_state,
    group,
    tensor,
    time_major,
)
from tests.parity.configs import ACTIONS, config, env_spec
from tests.parity.metrics import ACTOR_CRITIC, MODEL
from tests.parity.weights import close_weights

FILES = {"13_agent_train_atari": "atari", "13b_agent_train_dmc": "dmc", "13c_agent_train_crafter": "crafter"}
METRICS = MODEL | ACTOR_CRITIC | {"model_loss": "model/loss", "model_grad_norm": "model/gradient_norm"}
# Adam divides gradients by their size, so an entry that is rounding (see `image_gradient`) moves as far as any other:
# up to lr = 1e-4 a step. Layer norm over two channels makes such entries; the other settings need no exception.
OUTLIERS = {"atari": 0.0, "dmc": 0.0, "crafter": 1e-3}
BATCHES = ("data0", "data1", "data0", "data1")


@pytest.mark.parametrize("name", FILES)
def test_train_step_four_batches_have_the_results_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    arrays = golden(name)
    kind = FILES[name]
    settings = config(kind, behavior__critic__target_update_interval=2, behavior__horizon=4)
    agent = Dreamer(settings, env_spec(ACTIONS[kind]), device=DEVICE)
    load(agent, group(arrays, "param/"))
    expected = group(arrays, "metric/")
    for step, data in enumerate(BATCHES, start=1):
        # The agent keeps the carried state itself: the second batch continues where the first one ended.
        batch = {key: tensor(time_major(array)) for key, array in group(arrays, f"{data}/").items()}
        metrics = agent.train_step(batch, sample=False)
        for key, values in expected.items():
            # Norms are those of gradients, and agree as gradients do.
            tolerance = GRADIENT if key.endswith("grad_norm") else FORWARD
            close(metrics[METRICS[key]], values[step - 1], tolerance, f"{key} of step {step}")
        assert agent.carry is not None
        close_state(agent.carry, arrays, f"state{step}/")
        if f"after{step}/rssm/img_in/kernel" in arrays:
            close_weights(agent, group(arrays, f"after{step}/"), outliers=OUTLIERS[kind])
    assert agent.updates == int(arrays["updates"]) == len(BATCHES)

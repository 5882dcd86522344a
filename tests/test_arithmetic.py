"""The formula of `benchmarks/arithmetic.py` against PyTorch's own count of what the plain modules multiply."""

import pytest
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.arithmetic import count
from reverie.bench.examples import example_spec, random_batch
from reverie.config import preset
from reverie.dreamer import Dreamer
from tests.helpers.agents import tensors


@pytest.mark.parametrize("predict_discount", [True, False])
def test_count_of_multiplications_is_that_of_the_plain_modules(predict_discount: bool) -> None:
    settings = {"world_model.predict_discount": predict_discount, "world_model.rssm.deter": 24, "device": "cpu"}
    config = preset("debug").override(**settings, **{"behavior.horizon": 4})
    spec = example_spec("debug")
    agent = Dreamer(config, spec, seed=0)
    batch = tensors(random_batch(spec, config.replay.batch_length, config.replay.batch_size))
    with FlopCounterMode(display=False) as counter:
        agent.train_step(batch)
    channels = spec.observations["image"].shape[-1]
    assert count(config, channels, spec.action.size)["dense"]["all"] * 1e9 == pytest.approx(
        counter.get_total_flops(), rel=0.02
    )

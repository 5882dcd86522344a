"""File 16: reward normalisation, schedules, target critic.

The clock for updates, `every16`, is compared in `test_every.py`.
"""

import pytest
import torch

from reverie.behavior import Behavior
from reverie.behavior.networks import RewardNorm
from reverie.config import RewardNormConfig
from reverie.schedules import parse_schedule
from tests.parity.compare import DEVICE, FORWARD, LoadGolden, close, tensor
from tests.parity.configs import DISCRETE, config


@pytest.mark.parametrize("momentum", [0.99, 1.0])
def test_reward_norm(golden: LoadGolden, momentum: float) -> None:
    arrays = golden("16_misc")
    norm = RewardNorm(RewardNormConfig(momentum=momentum, scale=1.0, eps=1e-8)).to(DEVICE)
    case = f"streamnorm_{momentum}"
    for t, rewards in enumerate(tensor(arrays[f"{case}/inputs"])):
        close(norm(rewards), arrays[f"{case}/outputs"][t], FORWARD, f"call {t}")
        close(norm.magnitude.float(), arrays[f"{case}/mag"][t], FORWARD, f"magnitude after call {t}")


@pytest.mark.parametrize("text", ["linear(1,0,10)", "warmup(10,2)", "exp(1,0.1,5)", "horizon(10,100,10)", "0.3"])
def test_schedules(golden: LoadGolden, text: str) -> None:
    expected = golden("16_misc")[f"schedule/{text}"]
    schedule = parse_schedule(text)
    for step, value in zip(range(0, 24, 4), expected, strict=True):
        assert schedule(step) == pytest.approx(float(value), rel=1e-5, abs=1e-6), step


@pytest.mark.parametrize("fraction", ["1", "0.25"])
def test_target_critic(golden: LoadGolden, fraction: str) -> None:
    expected = golden("16_misc")[f"slow_target/fraction{fraction}"]
    settings = config("atari", behavior__critic__target_update_interval=3, behavior__critic__target_tau=float(fraction))
    behavior = Behavior(settings.behavior, 8, DISCRETE).to(DEVICE)
    for update, value in enumerate(expected):
        with torch.no_grad():
            for parameter in behavior.critic.parameters():
                parameter.fill_(update + 1)
        behavior.update_target(update)
        for name, parameter in behavior.target_critic.named_parameters():
            close(parameter, torch.full_like(parameter, float(value)).cpu().numpy(), FORWARD, name)

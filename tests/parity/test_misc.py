"""File 16: reward normalisation, schedules, target critic.

The clock for updates, `every16`, is compared in `test_every.py`.
"""

import pytest
import torch

from reverie.config import RewardNormConfig, parse_schedule
from reverie.dreamer.actor_critic import ActorCritic
from reverie.dreamer.heads import RewardNorm
from tests.parity.compare import DEVICE, FORWARD, LoadGolden, close, tensor
from tests.parity.configs import DISCRETE, config


@pytest.mark.parametrize("momentum", [0.99, 1.0])
def test_reward_norm_sequence_has_the_outputs_of_the_release(golden: LoadGolden, momentum: float) -> None:
    arrays = golden("16_misc")
    norm = RewardNorm(RewardNormConfig(momentum=momentum, scale=1.0, eps=1e-8)).to(DEVICE)
    case = f"streamnorm_{momentum}"
    for t, rewards in enumerate(tensor(arrays[f"{case}/inputs"])):
        norm.update(rewards)
        close(norm(rewards), arrays[f"{case}/outputs"][t], FORWARD, f"call {t}")
        close(norm.magnitude.float(), arrays[f"{case}/mag"][t], FORWARD, f"magnitude after call {t}")


@pytest.mark.parametrize("text", ["linear(1,0,10)", "warmup(10,2)", "exp(1,0.1,5)", "horizon(10,100,10)", "0.3"])
def test_schedule_has_the_values_of_the_release(golden: LoadGolden, text: str) -> None:
    expected = golden("16_misc")[f"schedule/{text}"]
    schedule = parse_schedule(text)
    for step, value in zip(range(0, 24, 4), expected, strict=True):
        assert schedule(step) == pytest.approx(float(value), rel=1e-5, abs=1e-6), step


@pytest.mark.parametrize("fraction", ["1", "0.25"])
def test_target_critic_follows_as_in_the_release(golden: LoadGolden, fraction: str) -> None:
    expected = golden("16_misc")[f"slow_target/fraction{fraction}"]
    settings = config("atari", behavior__critic__target_update_interval=3, behavior__critic__target_tau=float(fraction))
    actor_critic = ActorCritic(settings.behavior, 8, DISCRETE).to(DEVICE)
    for update, value in enumerate(expected):
        with torch.no_grad():
            for parameter in actor_critic.critic.parameters():
                parameter.fill_(update + 1)
        actor_critic.update_target()
        for name, parameter in actor_critic.target_critic.named_parameters():
            close(parameter, torch.full_like(parameter, float(value)).cpu().numpy(), FORWARD, name)

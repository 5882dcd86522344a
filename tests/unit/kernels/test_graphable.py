"""An update reads no value and no host memory, so that a CUDA graph can record it; found out on the meta device."""

from typing import Any

import pytest
import torch

from reverie.dreamer import Dreamer
from reverie.dreamer.layers import Scalar
from reverie.specs import ActionSpec, EnvSpec
from tests.helpers.agents import CONTINUOUS, DICT, DISCRETE, MULTI_DISCRETE, random_steps, tensors, tiny
from tests.helpers.meta_device import NoHostAccess, make_meta_agent, raises_on_host


def update(agent: Dreamer) -> dict[str, torch.Tensor]:
    """Update an agent once to copy constants to the device, and once without access to the host."""
    steps = {key: value.to("meta") for key, value in tensors(random_steps(agent.spec, (4, 2))).items()}
    agent.carry = agent.world_model.rssm.initial((2,))
    values: dict[str, Scalar] = {
        name: torch.empty((), device="meta") if value else value for name, value in agent.scheduled_values().items()
    }
    for optimizer in (agent.model_optimizer, agent.actor_optimizer, agent.critic_optimizer):
        optimizer.apply = lambda *inputs: None  # type: ignore[method-assign]
    agent.update(steps, values)
    for optimizer in (agent.model_optimizer, agent.actor_optimizer, agent.critic_optimizer):
        del optimizer.apply
    with NoHostAccess():
        return agent.update(steps, values)


@pytest.mark.parametrize(
    ("action", "settings"),
    [
        (DISCRETE, {}),
        (MULTI_DISCRETE, {"behavior__actor__gradient": "both"}),
        (CONTINUOUS, {"world_model__rssm__latents": "gaussian"}),
        (CONTINUOUS, {"behavior__actor__distribution": "tanh_normal"}),
        (DISCRETE, {"world_model__normalize_vectors": True, "behavior__reward_norm__momentum": 0.9}),
        (DISCRETE, {"world_model__kl__free_average": False, "world_model__predict_discount": False}),
    ],
    ids=["discrete", "both gradients", "continuous", "tanh", "norms", "no discount"],
)
def test_update_reads_no_value(action: ActionSpec, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = update(make_meta_agent(tiny(**settings), EnvSpec(DICT, action), monkeypatch))
    assert {value.device.type for value in metrics.values()} == {"meta"}
    assert len(metrics) > 20


@pytest.mark.parametrize("factor", [lambda feat: float(feat.detach().mean()), lambda feat: torch.tensor(2.0)])
def test_update_that_reads_a_value_or_host_memory_raises(factor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_meta_agent(tiny(), EnvSpec(DICT, DISCRETE), monkeypatch)
    reward = agent.world_model.reward
    monkeypatch.setattr(agent.world_model, "reward", lambda feat: reward(feat) * factor(feat))
    with raises_on_host():
        update(agent)

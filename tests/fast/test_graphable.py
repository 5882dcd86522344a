"""An update looks at no value and takes nothing from the host's memory: found out on a device that has no values."""

from typing import Any

import pytest
import torch

from reverie.acting import ActState
from reverie.agent import Dreamer
from reverie.networks.scalars import Scalar
from reverie.specs import ActionSpec, EnvSpec
from tests.fast.stand_ins import OnTheDevice, raises_on_host, without_values
from tests.helpers.agents import CONTINUOUS, DICT, DISCRETE, MULTI_DISCRETE, random_steps, tensors, tiny


def learn(agent: Dreamer) -> dict[str, torch.Tensor]:
    """An update of an agent without values, after one in which constants are put on the device."""
    steps = {key: value.to("meta") for key, value in tensors(random_steps(agent.spec, (4, 2))).items()}
    agent.carry = agent.world_model.rssm.initial((2,))
    scalars: dict[str, Scalar] = {
        name: torch.empty((), device="meta") if value else value for name, value in agent._scalars().items()
    }
    agent._learn(steps, scalars | {f"{name}_lr": 0.0 for name in agent._optimizers()})
    with OnTheDevice():
        return agent._learn(steps, scalars)


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
def test_an_update_looks_at_no_value(
    action: ActionSpec, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = without_values(tiny(**settings), EnvSpec(DICT, action), monkeypatch)
    metrics = learn(agent)
    assert {value.device.type for value in metrics.values()} == {"meta"}
    assert len(metrics) > 20


@pytest.mark.parametrize("action", [MULTI_DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_a_decision_looks_at_no_value(action: ActionSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(behavior__actor__exploration_noise=0.1, world_model__normalize_vectors=True)
    agent = without_values(config, EnvSpec(DICT, action), monkeypatch)
    steps = {key: value[0].to("meta") for key, value in tensors(random_steps(agent.spec, (1, 2))).items()}
    latent = agent.world_model.rssm.initial((2,))
    state = ActState(latent, torch.zeros((2, action.size), device="meta"))
    with OnTheDevice(), torch.no_grad():
        new = agent.player._decide({**steps}, state, False, True, agent.act_generator)
    assert {part.device.type for part in (*new.latent, new.action)} == {"meta"}


def test_a_look_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = without_values(tiny(), EnvSpec(DICT, DISCRETE), monkeypatch)
    plain = agent.world_model.reward
    monkeypatch.setattr(agent.world_model, "reward", lambda feat: plain(feat) * float(feat.detach().mean()))
    with raises_on_host():
        learn(agent)
    monkeypatch.setattr(agent.world_model, "reward", lambda feat: plain(feat) * torch.tensor(2.0))
    with raises_on_host():
        learn(agent)

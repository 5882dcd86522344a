"""Copies of an agent that only decide: they decide alike, and keep their weights until they are told."""

import numpy as np
import pytest
import torch

from reverie.acting import ActState, Player
from reverie.agent import Dreamer
from reverie.spaces import EnvSpec
from tests.test_agent import CONTINUOUS, DICT, DISCRETE, MULTI_DISCRETE, random_steps, tiny

ACTIONS = {"discrete": DISCRETE, "multi": MULTI_DISCRETE, "continuous": CONTINUOUS}


def make(name: str = "discrete", precision: str = "fp32", **settings: object) -> Dreamer:
    settings = {"world_model__normalize_vectors": True, "training__precision": precision, **settings}
    agent = Dreamer(tiny(**settings), EnvSpec(DICT, ACTIONS[name]))
    agent.train_step(random_steps(agent.spec, (4, 3)))
    return agent


def decisions(player: Player, count: int = 4) -> tuple[list[np.ndarray], ActState]:
    generator, state, actions = torch.Generator().manual_seed(7), None, []
    for seed in range(count):
        action, state = player.act(random_steps(player.spec, (3,), seed), state, generator=generator)
        actions.append(action)
    assert state is not None
    return actions, state


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_copy_decides_alike(name: str, precision: str, layer_norm: bool) -> None:
    norms = {f"world_model__{part}__layer_norm": layer_norm for part in ("rssm", "encoder")}
    agent = make(name, precision, **norms)
    (actions, state), (copied_actions, copied_state) = decisions(agent.player), decisions(agent.player.frozen())
    tolerance = 1e-5 if precision == "fp32" else 1e-2
    np.testing.assert_allclose(copied_actions, actions, atol=tolerance)
    for copied, own in zip(copied_state.latent, state.latent, strict=True):
        assert copied.dtype == own.dtype
        torch.testing.assert_close(copied, own, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_copy_stays_as_it_is_until_it_is_told(precision: str) -> None:
    agent = make(precision=precision)
    copy = agent.player.frozen()
    before, memory = decisions(copy)[1], {name: tensor.data_ptr() for name, tensor in copy.tensors().items()}
    agent.train_step(random_steps(agent.spec, (4, 3), 1))
    still = decisions(copy)[1]
    assert all(torch.equal(one, other) for one, other in zip(before.latent, still.latent, strict=True))
    copy.copy_from(agent.player)
    now, fresh = decisions(copy)[1], decisions(agent.player.frozen())[1]
    assert not torch.equal(now.latent.stats, before.latent.stats)
    assert all(torch.equal(one, other) for one, other in zip(now.latent, fresh.latent, strict=True))
    assert {name: tensor.data_ptr() for name, tensor in copy.tensors().items()} == memory


def test_a_copy_holds_what_a_decision_needs_and_nothing_else() -> None:
    agent = make()
    names = set(agent.player.frozen().tensors())
    assert {".".join(name.split(".")[:2]) for name in names} == {
        *("model.encoder", "model.rssm", "model.vector_norm"),
        *("actor.body", "actor.head"),
    }
    # The agent itself is whole, and no part of it is registered twice.
    assert not [name for name in agent.state_dict() if "player" in name]
    assert hasattr(agent.world_model, "decoder")

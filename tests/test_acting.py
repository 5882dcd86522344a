"""Copies of an agent that only decide: they decide alike, and keep their weights until they are told."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from reverie.acting import ActState, Player, check_observation, check_state
from reverie.agent import Dreamer
from reverie.errors import ObservationError, ReverieError
from reverie.specs import EnvSpec
from tests.helpers.agents import CONTINUOUS, DICT, DISCRETE, MULTI_DISCRETE, random_steps, tiny

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


def observation(count: int = 2) -> dict[str, Any]:
    """An observation that fits, of the keys image, position, wrist and speed, with `is_first` and what is not read."""
    steps = random_steps(EnvSpec(DICT, DISCRETE), (count,))
    del steps["action"]
    return steps


def changed(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda fits: {key: value for key, value in {**fits, **values}.items() if value is not None}


FLOATS = np.zeros((2, 64, 64, 1), np.float32)
REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "float image": (changed(image=FLOATS), "'image' is float32, but the agent reads uint8. Give pixels from 0 to 255"),
    "float tensor": (changed(image=torch.zeros(2, 64, 64, 1)), "'image' is float32, but the agent reads uint8"),
    "bytes for a vector": (changed(position=np.zeros((2, 3), np.uint8)), "'position' is uint8, but .* reads float"),
    "integers for a vector": (changed(position=np.zeros((2, 3), int)), "'position' is int64, but .* reads float"),
    "larger image": (
        changed(image=np.zeros((2, 66, 70, 1), np.uint8)),
        r"'image' has shape \(2, 66, 70, 1\), but \(N, 64, 64, 1\) is needed. Convert it as reverie.make_env does",
    ),
    "another vector": (changed(speed=np.zeros((2, 3), np.float32)), r"'speed' .*\(2, 3\), but \(N, 2\) is needed"),
    "unbatched": (
        lambda fits: {key: value[0] for key, value in fits.items()},
        r"\(64, 64, 1\). Observations need a leading batch axis, \(N, 64, 64, 1\). Add it with value\[None\]",
    ),
    "unbatched vector": (changed(speed=np.zeros(2, np.float32)), "'speed' .* need a leading batch axis"),
    "of different batches": (changed(speed=torch.zeros(3, 2)), "'speed' is of 3 environments, but 'image' of 2"),
    "missing": (changed(speed=None), "has no 'speed'. The agent reads image, position, wrist, speed"),
    "NaN": (changed(speed=np.full((2, 2), np.nan, np.float32)), "'speed' holds NaN or infinity"),
    "infinite tensor": (changed(speed=torch.full((2, 2), torch.inf)), "'speed' holds NaN or infinity"),
    "too large for float32": (changed(speed=np.full((2, 2), 1e300)), "'speed' holds NaN or infinity"),
    "is_first of floats": (changed(is_first=np.zeros(2)), "'is_first' is float64, but the agent reads bool"),
    "is_first unbatched": (changed(is_first=np.bool_(True)), r"'is_first' .* leading batch axis, \(N,\)"),
    "a list": (changed(speed=[[0.0, 0.0]] * 2), "'speed' is a list. Give a NumPy array or a tensor"),
    "an array": (lambda fits: fits["image"], r"given a ndarray. It reads a dictionary of image, position"),
    "what reset returns": (lambda fits: (fits, {}), "given a tuple. It reads a dictionary of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_check_observation_that_does_not_fit_is_refused_in_a_sentence(name: str) -> None:
    change, words = REFUSED[name]
    spec = EnvSpec(DICT, DISCRETE)
    with pytest.raises(ObservationError, match=words) as refused:
        check_observation(change(observation()), spec, tuple(DICT))
    assert isinstance(refused.value, ReverieError) and isinstance(refused.value, ValueError)
    text = str(refused.value)
    assert text.endswith(".") and "\n" not in text and len(text) <= 160


@pytest.mark.parametrize(
    "change",
    [
        changed(),
        changed(is_first=None, is_last=None, is_terminal=None, reward=None),
        changed(speed=np.zeros((2, 2))),
        changed(speed=torch.zeros(2, 2, dtype=torch.float16)),
        changed(unknown="not read", label=np.zeros(3)),
        lambda fits: {key: torch.from_numpy(value) for key, value in fits.items()},
        lambda fits: {key: value[:, ::-1] if value.ndim > 1 else value for key, value in fits.items()},
    ],
)
def test_act_observation_that_fits_is_taken(change: Callable[[dict[str, Any]], Any]) -> None:
    action, state = make().act(change(observation()))
    assert action.shape == (2, 4) and state.action.shape == (2, 4)


def test_act_observation_or_state_that_does_not_fit_is_refused() -> None:
    agent = make()
    _, state = agent.act(observation(2))
    with pytest.raises(ObservationError, match="leading batch axis"):
        agent.act({key: value[0] for key, value in observation().items()}, state)
    with pytest.raises(ObservationError, match="state is of 2 environments, but the observation of 3"):
        agent.act(observation(3), state)
    with pytest.raises(ObservationError, match="The stoch of the state has shape"):
        agent.act(observation(2), make(world_model__rssm__classes=7).act(observation(2))[1])


STATES: dict[str, tuple[Callable[[ActState], Any], str]] = {
    "a dict": (lambda state: state._asdict(), "The state is a dict"),
    "a tuple": (tuple, "The state is a tuple"),
    "a number": (lambda state: 3, "The state is a int"),
    "no latent state": (lambda state: state._replace(latent=tuple(state.latent)), "The latent of the state is a tuple"),
    "an array": (lambda state: state._replace(action=state.action.numpy()), "The action of the state is a ndarray"),
    "another action": (
        lambda state: state._replace(action=torch.zeros(2, 3)),
        r"The action of the state has shape \(2, 3\), but this agent's has \(N, 4\)",
    ),
    "unbatched": (lambda state: state._replace(action=state.action[0]), r"has shape \(4,\)"),
    "another size": (
        lambda state: state._replace(latent=state.latent._replace(deter=torch.zeros(2, 99))),
        r"The deter of the state has shape \(2, 99\)",
    ),
    "another agent's": (
        lambda _: make(world_model__rssm__classes=7).act(observation())[1],
        "The stoch of the state has shape",
    ),
    "of two batches": (
        lambda state: state._replace(latent=state.latent.map(lambda part: part[:1])),
        "The state is of 1 environments, but the observation of 2",
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_check_state_that_does_not_fit_is_refused_in_a_sentence(name: str) -> None:
    agent = make()
    change, words = STATES[name]
    state = change(agent.act(observation())[1])
    with pytest.raises(ObservationError, match=words) as refused:
        check_state(state, agent.player.initial(0), 2)
    text = str(refused.value)
    assert "Pass the state that act() returned" in text and text.endswith("or None at the start.")
    assert "\n" not in text and len(text) <= 160


def test_act_key_that_no_network_reads_may_be_missing() -> None:
    agent = Dreamer(tiny(world_model__encoder__keys=("image",)), EnvSpec(DICT, DISCRETE))
    assert agent.act({"image": observation()["image"]})[0].shape == (2, 4)
    with pytest.raises(ObservationError, match=r"has no 'image'\. The agent reads image\."):
        agent.act({"speed": observation()["speed"]})

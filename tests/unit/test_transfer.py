"""Parts of one agent in another."""

from typing import Any

import pytest
import torch

from reverie.config import ConfigError
from reverie.dreamer import Dreamer
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from reverie.transfer import PARTS, TransferredPart, transfer
from tests.helpers.agents import DISCRETE, tiny

VECTOR = {"position": ArraySpec((3,), "float32")}


def build(seed: int, action: ActionSpec = DISCRETE, **settings: Any) -> Dreamer:
    agent = Dreamer(tiny(world_model__normalize_vectors=True, **settings), EnvSpec(VECTOR, action), seed=seed)
    for value in agent.state_dict().values():  # biases and statistics differ, too
        if value.is_floating_point():
            value.add_(seed / 7)
    return agent


def state_of(part: TransferredPart) -> str:
    return "kept" if not part.num_fresh else "fresh" if not part.num_kept else "in part"


def test_every_parameter_and_statistic_belongs_to_one_part() -> None:
    agent = build(0, training__explore="plan2explore")
    for name in agent.state_dict():
        assert sum(name.startswith(prefixes) for prefixes in PARTS.values()) == 1, name


@pytest.mark.parametrize(
    ("keep", "fresh", "kept"),
    [
        ("all", (), set(PARTS) - {"explorer"}),
        ("model", (), {"preprocess", "encoder", "rssm", "decoder", "reward", "discount"}),
        ("model+actor", ("reward",), {"preprocess", "encoder", "rssm", "decoder", "discount", "actor"}),
    ],
)
def test_transfer_copies_the_chosen_parts_and_nothing_else(keep: Any, fresh: tuple[str, ...], kept: set[str]) -> None:
    agent, untouched, source = build(1), build(1), build(2)
    table = transfer(agent, source, keep, fresh)
    assert {part.name for part in table if state_of(part) == "kept"} == kept
    assert all(state_of(part) in ("kept", "fresh") for part in table)
    for name, value in agent.state_dict().items():
        (part,) = [part for part, prefixes in PARTS.items() if name.startswith(prefixes)]
        expected = source if part in kept else untouched
        assert torch.equal(value, expected.state_dict()[name]), name


def test_transfer_to_other_actions_keeps_what_does_not_depend_on_them() -> None:
    agent, source = build(1, ActionSpec("discrete", (6,))), build(2)
    table = {part.name: part for part in transfer(agent, source)}
    states = {name: state_of(part) for name, part in table.items()}
    assert states == {**dict.fromkeys(table, "kept"), "rssm": "in part", "actor": "in part"}
    assert [text.split(" is ")[0] for text in table["actor"].others] == [
        "actor_critic.actor.head.weight",
        "actor_critic.actor.head.bias",
    ]
    assert "6x16 here, 4x16 there" in str(table["actor"])
    assert len(table["rssm"].others) == 1  # the layer that reads the action


def test_transfer_of_which_no_weight_fits_is_refused() -> None:
    """A bias is not kept without the weight of its layer, though that of an output may have the same shape."""
    sizes = {
        f"world_model__{part}__units": 24 for part in ("encoder__mlp", "decoder__mlp", "reward_head", "discount_head")
    }
    sizes |= {"world_model__rssm__deter": 24, "world_model__rssm__hidden": 24, "world_model__rssm__stoch": 5}
    sizes |= {"behavior__actor__units": 24, "behavior__critic__units": 24}
    with pytest.raises(ConfigError, match="No weights of the agent for"):
        transfer(build(1, **sizes), build(2), fresh=["preprocess"])


def test_transfer_to_an_exploring_agent_leaves_its_explorer_fresh() -> None:
    table = {part.name: part for part in transfer(build(1, training__explore="plan2explore"), build(2))}
    assert state_of(table["explorer"]) == "fresh" and state_of(table["actor"]) == "kept"
    assert "missing there" in table["explorer"].others[0]


def test_transfer_of_an_unknown_part_is_refused() -> None:
    with pytest.raises(ConfigError, match="no part 'rewards'; did you mean reward"):
        transfer(build(1), build(2), fresh=["rewards"])

"""Updates by a recorded graph against updates without one, bit for bit; a stand-in repeats in place of a GPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie.acting import Player
from reverie.agent import Dreamer
from reverie.checkpoints import read_checkpoint
from reverie.config import Config
from reverie.fast.cuda_graphs import WARM_UP, Graphed
from reverie.specs import ActionSpec, EnvSpec
from tests.fast.stand_ins import AgainRecorder, with_graph
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, DISCRETE, random_steps, tiny

CPU = torch.device("cpu")

# Everything that may change between two updates: learning rates, loss weights, the target critic, running means.
CHANGING: dict[str, Any] = {
    "world_model__optimizer__lr": "linear(1e-3,1e-4,60)",
    "behavior__critic__optimizer__lr": "exp(1e-3,1e-4,10)",
    "world_model__kl__scale": "linear(0.1,1,60)",
    "world_model__kl__free_nats": "linear(2,1,60)",
    "behavior__actor__entropy": "linear(3e-3,3e-4,60)",
    "behavior__critic__target_update_interval": 3,
    "behavior__critic__target_tau": 0.5,
    "behavior__reward_norm__momentum": 0.9,
}


def everything(agent: Dreamer) -> dict[str, Tensor]:
    """All tensors that further updates depend on."""
    groups = agent.snapshot().tensors
    return {f"{group}/{name}": value.clone() for group, tensors in groups.items() for name, value in tensors.items()}


def learn(agent: Dreamer, batches: list[dict[str, np.ndarray]]) -> list[dict[str, Tensor]]:
    """Metrics of an update for each batch; agent steps go on by ten before each."""
    metrics = []
    for batch in batches:
        agent.agent_steps += 10
        metrics.append(agent.train_step(batch))
    return metrics


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def agents(config: Config, spec: EnvSpec) -> tuple[Dreamer, Dreamer, AgainRecorder]:
    plain, graphed = Dreamer(config, spec), Dreamer(config, spec)
    return plain, graphed, with_graph(graphed)


@pytest.mark.parametrize(
    "settings",
    [
        {"action": DISCRETE},
        {"action": CONTINUOUS},
        # The weight of the dynamics gradient comes to zero after three steps: what is recorded changes.
        {"action": DISCRETE, "behavior__actor__gradient": "both",
         "behavior__actor__dynamics_weight": "linear(0.1,0,30)"},
        {"action": CONTINUOUS, "behavior__actor__distribution": "tanh_normal", "training__precision": "bf16"},
    ],
    ids=["reinforce", "dynamics", "both", "tanh, bf16"],
)  # fmt: skip
def test_a_graph_learns_the_same(settings: dict[str, Any]) -> None:
    spec = EnvSpec(ATARI_IMAGE, settings["action"])
    config = tiny(**CHANGING, **{key: value for key, value in settings.items() if key != "action"})
    plain, graphed, recorder = agents(config, spec)
    batches = [random_steps(spec, (5, 2), seed) for seed in range(8)]
    for batch in batches:
        batch["is_first"][0, 1] = False  # The carried state counts.
    expected, actual = learn(plain, batches), learn(graphed, batches)
    for one, other in zip(expected, actual, strict=True):
        assert_same(one, other)
    assert_same(everything(plain), everything(graphed))
    assert sum(recording.replays for recording in recorder.recordings) + recorder.runs == len(batches)
    assert recorder.recordings[-1].replays > 0


def test_restoring_and_other_batch_sizes(tmp_path: Path) -> None:
    spec = EnvSpec(ATARI_IMAGE, DISCRETE)
    plain, graphed, recorder = agents(tiny(**CHANGING), spec)
    batches = [random_steps(spec, (5, 2), seed) for seed in range(WARM_UP + 2)]
    wide = [random_steps(spec, (5, 3), seed) for seed in range(WARM_UP + 2)]
    learn(plain, batches[:2])
    plain.save(tmp_path / "saved")
    _, saved = read_checkpoint(tmp_path / "saved")
    learn(graphed, batches[:2])
    for agent in (plain, graphed):
        learn(agent, batches)
        agent.restore(saved)
        learn(agent, batches)
    assert_same(everything(plain), everything(graphed))
    for agent in (plain, graphed):
        learn(agent, wide)
        learn(agent, batches)
    assert_same(everything(plain), everything(graphed))
    assert [recording.replays for recording in recorder.recordings] == [4, 2, 2, 2]


def test_results_outlive_later_calls() -> None:
    agent = Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE))
    with_graph(agent)
    batches = [random_steps(agent.spec, (5, 2), seed) for seed in range(WARM_UP + 3)]
    metrics = learn(agent, batches)
    losses = {float(one["model/loss"]) for one in metrics}
    assert len(losses) == len(batches)


class Refusing(AgainRecorder):
    def record(self, call: Any) -> Any:
        try:
            raise RuntimeError("operation not permitted\nand more")
        finally:
            raise RuntimeError("the recording was invalidated")


def test_without_a_recording_it_goes_on() -> None:
    spec = EnvSpec(ATARI_IMAGE, DISCRETE)
    plain, graphed, _ = agents(tiny(), spec)
    graphed._graph = Graphed(graphed._learn, CPU, Refusing(), "Learning")
    batches = [random_steps(spec, (5, 2), seed) for seed in range(WARM_UP + 3)]
    learn(plain, batches)
    with pytest.warns(RuntimeWarning, match="goes on without a CUDA graph") as caught:
        learn(graphed, batches)
    assert [str(warning.message) for warning in caught].pop().count("operation not permitted") == 1
    assert len(caught) == 1
    assert_same(everything(plain), everything(graphed))


def test_numbers_reach_a_recording() -> None:
    recorder = AgainRecorder()
    seen = []

    def function(inputs: dict[str, Tensor], scalars: Any) -> dict[str, Tensor]:
        seen.append(scalars)
        return {"product": inputs["x"] * scalars["factor"] + scalars["nothing"]}

    graphed = Graphed(function, CPU, recorder, "A test")
    results = [
        graphed({"x": torch.tensor([1.0, 2.0])}, {"factor": factor, "nothing": 0.0})["product"].tolist()
        for factor in (1.0, 2.0, 3.0, 4.0, 5.0)
    ]
    assert results == [[1, 2], [2, 4], [3, 6], [4, 8], [5, 10]]
    assert all(isinstance(scalars["factor"], Tensor) for scalars in seen)
    assert {scalars["nothing"] for scalars in seen} == {0.0}
    assert (recorder.runs, recorder.recordings[0].replays) == (WARM_UP, 2)
    graphed({"x": torch.tensor([1.0])}, {"factor": 1.0, "nothing": 0.0})
    graphed({"x": torch.tensor([1.0])}, {"factor": 0.0, "nothing": 0.0})
    assert recorder.runs == WARM_UP + 2


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_a_graph_decides_the_same(action: ActionSpec) -> None:
    agent = Dreamer(tiny(behavior__actor__exploration_noise=0.1), EnvSpec(ATARI_IMAGE, action))
    parts = (agent.world_model, agent.behavior.actor, agent.config, agent.spec)
    recorder = AgainRecorder()
    plain = Player(*parts, torch.Generator().manual_seed(3))
    graphed = Player(*parts, torch.Generator().manual_seed(3), recorder)
    states: list[Any] = [None, None]
    kept = []
    for t in range(WARM_UP + 5):
        steps = random_steps(agent.spec, (1, 3), seed=t)
        observation = {"image": steps["image"][0], "is_first": np.array([t == 0, t == 5, False])}
        if t == 6:  # New weights in their old places.
            with torch.no_grad():
                agent.behavior.actor.head.weight.mul_(-1)
        (expected, states[0]), (actual, states[1]) = (
            player.act(observation, state) for player, state in zip((plain, graphed), states, strict=True)
        )
        assert np.array_equal(actual, expected)
        assert all(map(torch.equal, (*states[0].latent, states[0].action), (*states[1].latent, states[1].action)))
        kept.append((states[1].latent.deter, states[1].latent.deter.clone()))
    assert all(torch.equal(state, copy) for state, copy in kept)
    assert recorder.recordings[0].replays == 5
    # Evaluations, and whoever brings a generator of their own, do without.
    graphed.act(observation, deterministic=True)
    graphed.act(observation, generator=torch.Generator())
    assert (recorder.runs, len(recorder.recordings)) == (WARM_UP, 1)

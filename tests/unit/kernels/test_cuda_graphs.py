"""Recorded updates, with a fake CUDA graph that calls the function again instead of replaying it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from reverie.agents import Agent
from reverie.dreamer import Dreamer
from reverie.kernels.adam import FusedAdam
from reverie.kernels.cuda_graphs import WARM_UP, Graph, GraphedDreamer, graphed, has_plain_update
from reverie.specs import EnvSpec
from tests.helpers.agents import ATARI_IMAGE, DISCRETE, random_steps, tensors, tiny


class FakeGraph(Graph):
    """A graph on a CPU, which leaves results in the memory of the recorded call."""

    num_records = 0

    def run(self) -> dict[str, Tensor]:
        return self._function(self._inputs, self._values)

    def record(self) -> tuple[Callable[[], None], dict[str, Tensor]]:
        self.num_records += 1
        outputs: dict[str, Tensor] = {}

        def replay() -> None:
            for name, value in self.run().items():
                outputs.setdefault(name, torch.empty_like(value)).copy_(value)

        return replay, outputs


def make(function: Callable[..., dict[str, Tensor]]) -> FakeGraph:
    return FakeGraph(function, torch.device("cpu"), torch.Generator())


def test_graph_replayed_reads_new_inputs_and_values() -> None:
    graph = make(lambda inputs, values: {"y": inputs["x"] * values["a"] + values["b"]})
    results = [graph({"x": torch.tensor([float(i)])}, {"a": 2.0 + i, "b": 0.0}, 0)["y"] for i in range(WARM_UP + 3)]
    assert torch.cat(results).tolist() == [i * (2.0 + i) for i in range(WARM_UP + 3)]
    assert graph.num_records == 1


def test_graph_passes_zeros_as_numbers_and_others_as_tensors() -> None:
    seen = []
    graph = make(lambda inputs, values: seen.append(dict(values)) or {"y": inputs["x"] + 0})
    graph({"x": torch.ones(1)}, {"a": 0.0, "b": 1.0}, 0)
    assert seen[0]["a"] == 0.0 and not isinstance(seen[0]["a"], Tensor)
    assert isinstance(seen[0]["b"], Tensor)


@pytest.mark.parametrize("change", ["shape", "zero", "state"])
def test_graph_is_recorded_again_when_something_else_is_fixed(change: str) -> None:
    graph = make(lambda inputs, values: {"y": inputs["x"].sum() * values["a"]})
    for _ in range(WARM_UP + 2):
        graph({"x": torch.ones(2)}, {"a": 1.0}, 0)
    x = torch.ones(3 if change == "shape" else 2)
    a, state = 0.0 if change == "zero" else 1.0, int(change == "state")
    for _ in range(WARM_UP + 2):
        assert graph({"x": x}, {"a": a}, state)["y"] == len(x) * a
    assert graph.num_records == 2


def test_graph_results_are_not_overwritten() -> None:
    graph = make(lambda inputs, values: {"y": inputs["x"] * 1})
    results = [graph({"x": torch.tensor(float(i))}, {}, 0)["y"] for i in range(WARM_UP + 3)]
    assert [float(result) for result in results] == list(range(WARM_UP + 3))


def test_graphed_dreamer_learns_as_dreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.kernels.cuda_graphs.Graph", FakeGraph)
    plain, graphed = (Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE), seed=0) for _ in range(2))
    graphed.__class__ = GraphedDreamer
    for agent in (plain, graphed):
        for optimizer in (agent.model_optimizer, agent.actor_optimizer, agent.critic_optimizer):
            optimizer.__class__ = FusedAdam
    for step in range(WARM_UP + 3):
        batch = tensors(random_steps(plain.spec, (4, 2), seed=step))
        plain.agent_steps = graphed.agent_steps = 10 * step
        expected, actual = plain.train_step(batch), graphed.train_step(batch)
        for name, value in expected.items():
            torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert vars(graphed)["graph"].num_records == 1


def test_graphed_agent_keeps_its_class() -> None:
    kind = graphed(Agent)
    assert issubclass(kind, Agent) and kind.update is GraphedDreamer.update
    assert graphed(Dreamer) is GraphedDreamer


def test_has_plain_update_of_a_changed_update_is_false() -> None:
    class Changed(Dreamer):
        def update_world_model(self, *arguments: Any, **options: Any) -> Any:
            return super().update_world_model(*arguments, **options)

    assert has_plain_update(Dreamer) and has_plain_update(Agent)
    assert not has_plain_update(Changed)

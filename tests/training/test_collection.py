"""Random steps many at a time are the same as one by one."""

from pathlib import Path

import numpy as np
import pytest

import reverie
from reverie.config import EnvConfig
from reverie.envs import make_env
from reverie.specs import ActionSpec
from reverie.training.collection import Collected, Collector, RandomPolicy
from reverie.training.metrics import read_metrics
from tests.helpers import environments


@pytest.mark.parametrize(
    "action", [ActionSpec("discrete", (18,)), ActionSpec("discrete", (2, 5)), ActionSpec("continuous", (3,))]
)
def test_a_plan_is_what_calls_draw(action: ActionSpec) -> None:
    planned, called, plain = (np.random.default_rng(5) for _ in range(3))
    plan = RandomPolicy(action, planned).plan(9, 4)
    policy = RandomPolicy(action, called)
    calls = np.stack([policy({"is_first": np.zeros(4, bool)}) for _ in range(9)])
    np.testing.assert_array_equal(plan, calls)
    assert planned.bit_generator.state == called.bit_generator.state
    for expected in plan:  # and what numpy's generator gives without us
        if action.kind == "continuous":
            drawn = plain.uniform(-1, 1, (4, 3)).astype(np.float32)
        else:
            drawn = np.concatenate([np.eye(size)[plain.integers(size, size=4)] for size in action.sizes], -1)
        np.testing.assert_array_equal(expected, drawn)
    assert plan.dtype == np.float32


def assert_same(one: list[Collected], other: list[Collected]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.episodes == right.episodes
        for (step, rows), (expected, expected_rows) in zip(left.steps, right.steps, strict=True):
            assert rows.tolist() == expected_rows.tolist()
            assert step.keys() == expected.keys()
            assert all(np.array_equal(step[key], expected[key]) for key in step)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_collector_notes_planned_steps_like_others(parallel: bool) -> None:
    def collect(counts: list[int], parallel: bool) -> list[Collected]:
        config = EnvConfig(num_envs=3, parallel=parallel, time_limit=11)
        with make_env(config, 3, environments.Catch) as env:
            collector, policy = Collector(env), RandomPolicy(env.spec.action, np.random.default_rng(0))
            if not counts:
                return [collector.collect(policy) for _ in range(40)]
            return [collected for count in counts for collected in collector.steps(policy, count)]

    one_by_one = collect([], False)
    assert sum(len(collected.episodes) for collected in one_by_one) == 9
    assert_same(collect([7, 1, 32], parallel), one_by_one)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_size_of_a_block_changes_no_run(num_envs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(block: int) -> tuple[reverie.Dreamer, list[dict[str, float]]]:
        monkeypatch.setattr("reverie.training.trainer.BLOCK", block)
        settings = {"steps": 80, "prefill": 50, "log_every": 15, "train_every": 16, "eval_every": 0, "video_every": 0}
        settings |= {"env.num_envs": num_envs, "env.parallel": False}
        agent = reverie.train(environments.Catch, preset="debug", logdir=tmp_path / str(block), **settings)
        rows = read_metrics(tmp_path / str(block))
        return agent, [{k: v for k, v in row.items() if not k.startswith(("time", "speed"))} for row in rows]

    (one, rows), (many, expected) = run(32), run(1)
    assert rows == expected
    assert len(rows) >= 5
    weights = many.state_dict()
    assert all(value.equal(weights[name]) for name, value in one.state_dict().items())

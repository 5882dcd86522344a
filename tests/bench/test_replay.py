"""The made-up replay holds what was asked for, and batches of it are drawn."""

from pathlib import Path

import numpy as np
import pytest

from reverie.bench import replay as bench
from reverie.bench.examples import example_spec
from reverie.config import preset
from reverie.replay import ReplayBuffer


@pytest.mark.parametrize(("num_envs", "steps"), [(1, 60), (3, 61)])
def test_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_envs: int, steps: int) -> None:
    monkeypatch.setattr(bench, "EPISODE", 15)
    spec = example_spec("debug")
    config = preset("debug").replay
    bench.fill(ReplayBuffer(tmp_path / "replay.db", spec.step, config, num_envs), spec, steps, num_envs)
    reopened = ReplayBuffer(tmp_path / "replay.db", spec.step, config, num_envs)
    rows = -(-steps // num_envs)
    assert reopened.num_steps == rows * num_envs
    assert reopened.num_episodes == rows // 15 * num_envs
    assert reopened.sample(np.random.default_rng(0))["image"].std() > 60  # no zeros


def test_numbers_of_batches(tmp_path: Path) -> None:
    result = bench.measure_replay(preset("debug"), "debug", 40, 4, tmp_path)
    assert len(result["warm_batch_seconds_all"]) == 4
    assert result["disk_bytes_per_step"] >= 64 * 64

"""The script for machines with a GPU, on the CPU and in tiny sizes."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import reverie
from reverie.agents import save_agent
from reverie.dreamer import Dreamer
from reverie.kernels import NAMES
from reverie.specs import EnvSpec
from tests.helpers.agents import ATARI_IMAGE, DISCRETE, tiny

ROOT = Path(__file__).parents[1]
GPU = ROOT / "benchmarks" / "gpu"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def gpu_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules beside the script can be imported."""
    monkeypatch.syspath_prepend(str(GPU))
    yield
    for name in ("paths", "weights", "profile_step"):
        sys.modules.pop(name, None)


@pytest.fixture
def weights(gpu_scripts: None) -> ModuleType:
    return __import__("weights")


@pytest.fixture
def paths(gpu_scripts: None) -> ModuleType:
    return __import__("paths")


def test_the_gpu_script(tmp_path: Path) -> None:
    options = "--tiny --device cpu --stages machine,train-step,profile,learn --env CartPole-v1 --limit 400 --out"
    done = run(str(GPU), *options.split(), str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "measurements.jsonl").read_text().splitlines()]
    assert rows == [json.loads(line) for line in done.stdout.splitlines()]
    assert not [row for row in rows if "error" in row]
    steps = ["train-step"] * 4
    assert [row["stage"] for row in rows] == ["machine", *steps, "profile", "learn", "done"]
    assert [row["precision"] for row in rows[1:3]] == ["fp32", "bf16"]
    assert all(row["seconds_median"] > 0 for row in rows[1:5])
    assert rows[5]["kernels"] > 1000
    learned = rows[6]
    # The tiny preset comes to its end long before the time is over.
    assert learned["status"] == 0
    assert learned["updates"] > 0
    with tarfile.open(tmp_path / "details.tar.gz") as archive:
        assert {"curve.png", "metrics.jsonl", "profile-default.txt", "train.log"} <= set(archive.getnames())
    joined = run(str(GPU / "weights.py"), "join", str(tmp_path), str(tmp_path / "agent"))
    assert joined.returncode == 0, joined.stderr
    agent = reverie.load(tmp_path / "agent", device="cpu")
    assert agent.agent_steps == learned["weights"]["agent_steps"] > 0


def test_a_stage_that_fails_is_not_the_last(tmp_path: Path) -> None:
    options = "--tiny --device cpu --stages learn,machine --env NoSuchGame-v0 --limit 300 --out"
    done = run(str(GPU), *options.split(), str(tmp_path))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["stage"] for row in rows] == ["learn", "machine", "done"], done.stderr
    assert rows[0]["status"] != 0
    assert "NoSuchGame" in rows[0]["end_of_log"]


def test_without_time_nothing_begins(tmp_path: Path) -> None:
    done = run(
        str(GPU), *["--tiny", "--device", "cpu", "--stages", "paths,learn", "--limit", "1", "--out"], str(tmp_path)
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row.get("error", "")[:15] for row in rows] == ["no time is left", "no time is left", ""], done.stderr


def test_weights_in_pieces(weights: ModuleType, tmp_path: Path) -> None:
    agent = Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE))
    agent.agent_steps = 7
    save_agent(agent, tmp_path / "step-000000007")
    out = tmp_path / "out"
    out.mkdir()
    told = weights.split(tmp_path / "step-000000007", out, piece=50_000)
    sizes = [path.stat().st_size for path in sorted(out.glob("weights.[0-9][0-9]"))]
    assert len(sizes) == told["pieces"] > 1
    assert max(sizes) == 50_000
    weights.join(out, tmp_path / "agent")
    joined = reverie.load(tmp_path / "agent", device="cpu")
    for name, value in agent.state_dict().items():
        torch.testing.assert_close(joined.state_dict()[name], value, rtol=1e-3, atol=1e-6, msg=name)
    piece = out / "weights.01"
    piece.write_bytes(piece.read_bytes()[:-1] + b"?")
    with pytest.raises(SystemExit, match=r"weights\.01 is missing or damaged"):
        weights.join(out, tmp_path / "other")


def test_paths_that_differ_are_noticed(paths: ModuleType) -> None:
    shape: dict[str, Any] = {"replay.batch_size": 2, "replay.batch_length": 4, "training.device": "cpu"}
    config = reverie.preset("debug").override(**shape)

    def compare(limits: dict[str, float], **settings: float) -> dict[str, Any]:
        other = paths.fast(config.override(**settings))
        return paths.compare(paths.fast(config), other, limits, updates=2)

    same = compare(paths.SAME_KERNELS)
    assert same["passed"] and same["exact"]
    assert not compare(paths.SAME_KERNELS, **{"world_model.optimizer.lr": 2e-3})["passed"]
    assert not compare(paths.HALF, **{"world_model.kl.scale": 1e38})["passed"]


def test_paths_every_comparison_runs_on_a_cpu(paths: ModuleType) -> None:
    rows = {name: compare() for name, compare in paths.comparisons("cpu", tiny=True)}
    assert all(row["passed"] for row in rows.values()), rows
    assert rows["restored"]["exact"] and rows["the same again"]["exact"]


def test_kernels_each_kernel_has_a_line(tmp_path: Path) -> None:
    options = "--preset debug --rounds 2 --out"
    done = run(str(ROOT / "benchmarks" / "kernels.py"), *options.split(), str(tmp_path / "kernels.jsonl"))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "kernels.jsonl").read_text().splitlines()]
    assert {row["without"] for row in rows} == {*NAMES, "all"} - {"graphs", "compile"}  # those need a GPU
    assert all(len(row["ratio_all"]) == 2 and row["ratio_median"] > 0 for row in rows)
    assert {row["precision"] for row in rows} == {"bf16"}

"""The scripts of measurements, in tiny sizes: on machines with a GPU, of kernels, and of durability."""

import json
import os
import random
import shutil
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


def outcome(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script that prints one outcome at its end, and return it."""
    done = run(str(ROOT / "benchmarks" / script), *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout[done.stdout.index("{\n") :])


def test_damage_every_kind_of_place_is_found() -> None:
    found = outcome("damage.py", "--places", "36", "--resumed", "6", "--seed", "7")
    assert all(counts.get("found", 0) >= 2 for counts in found["outcomes"].values())
    assert sum(found["resumed"].values()) > 3


def test_power_cut_run_continues_from_its_checkpoint() -> None:
    found = outcome("power_cut.py", "--cuts", "2", "--intervals", "0.02")
    assert sum(found["continued_from"].values()) == 2 and not found["failures"]


@pytest.fixture
def disk() -> Any:
    return __import__("importlib").import_module("benchmarks.simulated_disk")


WRITER = """
import os, sys
os.chdir(sys.argv[1])
os.mkdir("folder")
with open("folder/a", "wb") as file:
    file.write(b"x" * 2000)
    file.flush()
    os.fsync(file.fileno())
    file.write(b"y" * 2000)
os.symlink("a", "folder/link")
os.rename("folder/a", "folder/b")
for path in ("folder", "."):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
os.rename("folder/b", "folder/c")
with open("folder/d", "wb") as file:
    file.write(b"z" * 2000)
os.unlink("folder/link")
"""


@pytest.fixture
def recorded(disk: ModuleType, tmp_path: Path) -> Any:
    """Files that `WRITER` leaves on a simulated disk."""
    root, log = tmp_path / "root", tmp_path / "log"
    root.mkdir()
    library = disk.build_recorder(tmp_path)
    environment = {**os.environ, "LD_PRELOAD": str(library), "DISK_LOG_ROOT": str(root), "DISK_LOG": str(log)}
    subprocess.run([sys.executable, "-c", WRITER, str(root)], env=environment, check=True)
    simulated = disk.SimulatedDisk(root, root.stat().st_ino)
    for operation in disk.read_log(log):
        simulated.apply(operation)
    return simulated


@pytest.mark.skipif(shutil.which("cc") is None or sys.platform != "linux", reason="needs a C compiler and LD_PRELOAD")
def test_simulated_disk_without_a_cut_holds_what_was_written(recorded: Any, tmp_path: Path) -> None:
    recorded.materialise(tmp_path / "copy")
    folder = tmp_path / "copy" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["c", "d"]
    assert (folder / "c").read_bytes() == b"x" * 2000 + b"y" * 2000 and (folder / "d").read_bytes() == b"z" * 2000


@pytest.mark.skipif(shutil.which("cc") is None or sys.platform != "linux", reason="needs a C compiler and LD_PRELOAD")
def test_simulated_disk_after_a_cut_keeps_what_was_synced_and_parts_of_the_rest(recorded: Any, tmp_path: Path) -> None:
    rng, names, contents = random.Random(0), set(), set()
    for number in range(200):
        copy = tmp_path / str(number)
        recorded.materialise(copy, rng)
        found = {path.name for path in (copy / "folder").iterdir()}
        names.add(frozenset(found))
        (written,) = found & {"b", "c"}
        data = (copy / "folder" / written).read_bytes()
        assert data[:2000] == b"x" * 2000 and not data[2000:].strip(b"y\0")
        contents.add(data)
    # Changes of names are there in order.
    assert names == {frozenset(each) for each in (("b", "link"), ("c", "link"), ("c", "d", "link"), ("c", "d"))}
    assert {b"x" * 2000, b"x" * 2000 + b"y" * 2000} < contents

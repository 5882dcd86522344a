"""The measurements on the command line: what they report, and how it looks."""

import json
import os
import statistics
from typing import Any

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from reverie.agents import num_parameters
from reverie.bench.examples import example_spec
from reverie.cli import bench as command
from reverie.cli import main as cli
from reverie.config import preset
from reverie.dreamer import Dreamer

TINY = {
    "train-step": "--preset debug --repeats 2 --behavior.horizon 2",
    "collect": "--preset debug --repeats 2 --seconds 0.01",
    "replay": "--preset debug --steps 300 --batches 3",
    "loop": "--preset debug --updates 2 --env.name CartPole-v1",
}
MEASURED = {
    "train-step": {"seconds"},
    "collect": {"without_policy_steps_per_second", "with_policy_steps_per_second", "act_seconds"},
    "replay": {"warm_batch_seconds"},
    "loop": {
        *("frames_per_second", "updates_per_second"),
        *(f"{phase}_share" for phase in ("collect", "replay", "sample", "learn", "other")),
    },
}
EVERYWHERE = {
    *("benchmark", "preset", "precision", "device", "threads", "cpu", "cpu_flags", "cores", "gpu"),
    *("reverie", "torch", "python", "commit", "peak_resident_mib", "peak_gpu_mib"),
}


def bench(capsys: pytest.CaptureFixture[str], line: str) -> dict[str, Any]:
    assert cli.main(["bench", *line.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", TINY)
def test_the_last_line_is_the_result(capsys: pytest.CaptureFixture[str], name: str) -> None:
    result = bench(capsys, f"{name} {TINY[name]}")
    assert result.keys() >= EVERYWHERE
    assert (result["benchmark"], result["preset"]) == (name, "debug")
    assert (result["threads"], result["device"]) == (torch.get_num_threads(), "cpu")
    assert {key.removesuffix("_median") for key in result if key.endswith("_median")} >= MEASURED[name]
    for key, median in result.items():
        if quantity := key.removesuffix("_median") * key.endswith("_median"):
            low, high = result[f"{quantity}_quartiles"]
            values = result[f"{quantity}_all"]
            assert min(values) <= low <= median <= high <= max(values)
            assert median == pytest.approx(statistics.median(values), rel=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_tables_fit_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Tables fit into 80 columns, and nothing is cut off."""
    narrow = Console(width=80, highlight=False, color_system=None)
    monkeypatch.setattr("reverie.cli.console.console", lambda stderr=False: narrow)
    result = bench(capsys, f"{name} {TINY[name]}")
    command.print_result(result)
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("│")]
    assert max(map(cell_len, rows)) <= 80
    assert not [line for line in rows if "…" in line]
    assert len(rows) >= len([key for key in result if not key.endswith(("_quartiles", "_all"))])


def test_settings_of_an_update(capsys: pytest.CaptureFixture[str]) -> None:
    batch = "--replay.batch-size 2 --replay.batch-length 5"
    result = bench(capsys, f"train-step --preset debug {batch} --precision bf16 --device cpu --repeats 3")
    agent = Dreamer(preset("debug"), example_spec("debug"), seed=0)
    assert (result["batch"], result["length"], result["precision"]) == (2, 5, "bf16")
    assert len(result["seconds_all"]) == 3
    trained = num_parameters(agent)
    assert result["parameters"] == trained


def test_the_presets_own_sizes_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    result = bench(capsys, "train-step --preset debug --repeats 1 --behavior.horizon 2")
    replay = preset("debug").replay
    assert (result["batch"], result["length"]) == (replay.batch_size, replay.batch_length)


def test_settings_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    result = bench(capsys, "collect --preset vector --repeats 1 --seconds 0.01 --env.num-envs 2 --env.parallel false")
    assert (result["env"], result["num_envs"], result["processes"]) == ("CartPole-v1", 2, 1)
    result = bench(capsys, "replay --preset debug --steps 90 --batches 1 --replay.batch-size 3")
    assert (result["steps"], result["batch"], result["length"]) == (90, 3, 10)
    assert result["warm_samples_per_second"] == pytest.approx(30 / result["warm_batch_seconds_median"], rel=1e-5)


def test_nothing_is_left_behind(
    capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    bench(capsys, f"replay {TINY['replay']}")
    bench(capsys, f"loop {TINY['loop']}")
    assert os.listdir(tmp_path) == []


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--help"]) == 0
    overview = capsys.readouterr().out
    for name in TINY:
        assert name in overview
        assert cli.main(["bench", name, "--help"]) == 0
        assert "--env.num-envs" in capsys.readouterr().out
    # An option of the command takes the place of a setting of that name.
    assert cli.main(["bench", "replay", "--preset", "debug", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.count("--steps ") == 1
    assert "200000" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", TINY)
def test_a_missing_device(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert cli.main(["bench", name, *TINY[name].split(), "--device", "cuda"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "no CUDA device" in err


@pytest.mark.parametrize(("name", "parameters"), [("atari", 22_245_398), ("atari-small", 4_200_718)])
def test_sizes_of_the_presets(name: str, parameters: int) -> None:
    assert num_parameters(Dreamer(preset(name), example_spec(name), seed=0)) == parameters

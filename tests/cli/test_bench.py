"""The measurement: what it reports, and on what it is made."""

import json
import statistics

import numpy as np
import pytest
import torch

from reverie.agent import Dreamer
from reverie.cli import main as cli
from reverie.cli.bench import example_spec, random_batch
from reverie.presets import PRESETS, preset


def bench(capsys: pytest.CaptureFixture[str], line: str) -> dict[str, object]:
    assert cli.main(["bench", "train-step", *line.split()]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_the_last_line_is_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    result = bench(capsys, "--preset debug --batch 2 --length 5 --precision bf16 --device cpu --repeats 3 --json")
    seconds = result.pop("seconds_all")
    assert isinstance(seconds, list)
    assert len(seconds) == 3
    assert min(seconds) > 0
    assert result.pop("seconds_median") == statistics.median(seconds)
    agent = Dreamer(preset("debug"), example_spec("debug"), seed=0)
    assert result == {
        "parameters": sum(p.numel() for p in agent.parameters()) - agent.parameter_counts()["target_critic"],
        "preset": "debug",
        "batch": 2,
        "length": 5,
        "precision": "bf16",
        "device": "cpu",
        "threads": torch.get_num_threads(),
    }


def test_the_presets_own_sizes_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    result = bench(capsys, "--preset debug --repeats 1 --json --behavior.horizon 2")
    replay = preset("debug").replay
    assert (result["batch"], result["length"]) == (replay.batch_size, replay.batch_length)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "train-step", "--preset", "debug", "--device", "cuda"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "no CUDA device" in err


@pytest.mark.parametrize(("name", "parameters"), [("atari", 22_245_398), ("atari-small", 4_200_718)])
def test_sizes_of_the_presets(name: str, parameters: int) -> None:
    assert Dreamer(preset(name), example_spec(name), seed=0).parameter_counts()["trained"] == parameters


@pytest.mark.parametrize("name", PRESETS)
def test_random_batches_fit_the_environment(name: str) -> None:
    spec = example_spec(name)
    batch = random_batch(spec, 6, 3)
    assert set(batch) == set(spec.step)
    for key, entry in spec.step.items():
        assert batch[key].shape == (6, 3, *entry.shape)
        assert batch[key].dtype == entry.dtype
    if spec.action.kind == "discrete":
        assert np.array_equal(np.sort(batch["action"], -1)[..., -1], np.ones((6, 3)))
        assert np.array_equal(batch["action"].sum(-1), np.ones((6, 3)))
    else:
        assert np.abs(batch["action"]).max() <= 1
    assert batch["is_first"].sum() == 3

"""A batch that cannot fit in memory is refused before the first step, and one that can never is."""

import shlex
from pathlib import Path

import pytest
import torch

import reverie
from reverie.bench.examples import example_spec
from reverie.cli import main as cli
from reverie.config import PRESETS, preset
from reverie.errors import ConfigError, RunError
from reverie.training import memory

MEASURED = [
    *[("debug", 100, 257), ("debug", 1000, 2057), ("debug", 3000, 7109), ("vector", 64, 68), ("vector", 256, 248)],
    *[("minatar", 16, 128), ("minatar", 64, 423), ("demo", 16, 96), ("demo", 64, 333), ("atari-laptop", 16, 119)],
    *[("atari-laptop", 40, 252), ("atari-small", 8, 201), ("atari-small", 16, 354), ("dmc-proprio", 8, 522)],
    *[("dmc-proprio", 16, 1070), ("atari", 4, 190), ("crafter", 4, 360)],
]
"""Preset, batch size, and MiB by which peak resident memory grew in two updates after one on a single sequence; the
less of fp32 and bf16, one thread of a CPU with AVX-512-BF16."""


RSSM, DEPTH = "world_model.rssm.", ("world_model.encoder.cnn_depth", "world_model.decoder.cnn_depth")
MEASURED_OTHERWISE: list[tuple[str, int, dict[str, int], int]] = [
    ("vector", 64, {"behavior.horizon": 100}, 383),
    ("minatar", 32, {"behavior.horizon": 60}, 236),
    ("atari-small", 8, {"behavior.horizon": 60}, 259),
    ("dmc-proprio", 8, {"behavior.horizon": 60}, 2004),
    ("demo", 32, {"behavior.horizon": 60}, 263),
    ("vector", 64, {f"{RSSM}deter": 1024}, 226),
    ("vector", 64, {f"{RSSM}stoch": 64, f"{RSSM}classes": 64}, 799),
    ("minatar", 32, {f"{RSSM}stoch": 64, f"{RSSM}classes": 64}, 448),
    ("minatar", 32, {f"{RSSM}deter": 1024, "behavior.horizon": 40}, 264),
    ("debug", 1000, dict.fromkeys(DEPTH, 1), 1385),
]
"""With other settings."""


@pytest.mark.parametrize(
    ("name", "batch_size", "settings", "mib"),
    [*((name, size, {}, mib) for name, size, mib in MEASURED), *MEASURED_OTHERWISE],
)
def test_least_memory_is_below_what_was_measured(
    name: str, batch_size: int, settings: dict[str, int], mib: int
) -> None:
    config = preset(name).override(**{"replay.batch_size": batch_size, **settings})
    least = memory.least_memory(config, example_spec(name)) / 2**20
    assert mib / 13 < least < mib / 1.3


@pytest.mark.parametrize("name", PRESETS)
def test_check_memory_presets_fit_in_four_gib(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 4 << 30)
    memory.check_memory(preset(name), example_spec(name), torch.device("cpu"))


@pytest.mark.parametrize("setting", ["batch_size", "batch_length"])
def test_check_memory_too_large_a_batch_is_refused(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 8 << 30)
    sizes = {"prefill": 50_000_000, "steps": 60_000_000, "replay.capacity": 100_000_000}
    config = preset("debug").override(**{f"replay.{setting}": 50_000_000, **sizes})
    with pytest.raises(ConfigError, match=rf"replay\.{setting}=50000000.* at least [\d,.]+ GiB .* 8\.0 GiB are free"):
        memory.check_memory(config, example_spec("debug"), torch.device("cpu"))


def test_check_memory_cuda_counts_device_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 20, 8 << 30))
    with pytest.raises(ConfigError, match="GiB of GPU memory"):
        memory.check_memory(preset("atari"), example_spec("atari"), torch.device("cuda"))


def test_train_too_large_a_batch_is_one_sentence_before_the_prefill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"train CartPole-v1 --preset debug --replay.batch-size 50000000 --logdir {tmp_path / 'run'}"
    assert cli.main(shlex.split(line)) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: A batch of replay.batch_size=50000000 x replay.batch_length=10 steps needs")
    assert captured.err.count("\n") == 1 and "prefill" not in captured.out
    assert not (tmp_path / "run").exists()


def test_free_memory_is_that_of_the_narrowest_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    found = memory.free_memory()
    assert found is not None and found > 0
    monkeypatch.setattr(memory.resource, "getrlimit", lambda kind: (1000, 1000))
    assert memory.free_memory() == 1000


def test_train_an_ordinary_batch_is_not_refused(tmp_path: Path) -> None:
    reverie.train("CartPole-v1", "debug", logdir=tmp_path, steps=40, prefill=20, eval_every=0)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")]
)
def test_train_out_of_memory_in_an_update_is_one_sentence(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(reverie.Dreamer, "train_step", fail)
    with pytest.raises(RunError, match=r"Memory ran out in an update of replay\.batch_size=4 x"):
        reverie.train("CartPole-v1", preset="debug", logdir=tmp_path, steps=300)

"""What a run says of the disk is an upper bound, and a near one."""

import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

import reverie
from reverie.training.disk import _size
from tests.helpers.environments import Counting

RUN = {"steps": 3000, "prefill": 2900, "eval_every": 0, "video_every": 0, "pretrain": 0, "train_every": 50}


def announced(text: str) -> float:
    found = re.search(r"Disk: at most ([0-9.,]+) MiB", " ".join(text.split()))
    assert found, text
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize("capacity", [700, 100_000])
def test_the_bound_holds_and_is_near(tmp_path: Path, capsys: pytest.CaptureFixture[str], capacity: int) -> None:
    settings = {**RUN, "replay.capacity": capacity, "env.num_envs": 2, "env.parallel": False, "checkpoint_every": 200}
    reverie.train(lambda: Counting(30), "debug", logdir=tmp_path, **settings)
    bound = announced(capsys.readouterr().out) + 0.5  # it is rounded
    taken = ((tmp_path / "replay.db").stat().st_size + _size(tmp_path / "checkpoints")) / (1 << 20)
    assert taken <= bound <= 5 * taken + 1, (taken, bound)


def test_a_disk_that_is_too_small_is_told_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    reverie.train(lambda: Counting(30), "debug", logdir=tmp_path, **{**RUN, "steps": 300, "prefill": 250})
    text = " ".join(capsys.readouterr().out.split())
    assert "It may not fit: lower replay.capacity or training.keep_checkpoints, or free some space." in text

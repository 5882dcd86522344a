"""The disk space that a run announces: an upper bound, and a near one."""

import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

import reverie
from tests.helpers.environments import Counting

RUN = {"steps": 3000, "prefill": 2900, "eval_every": 0, "video_every": 0, "pretrain": 0, "train_every": 50}


def size(run: Path) -> float:
    """Return MiB of replay and checkpoints on the disk."""
    paths = [*run.glob("replay.db*"), *(run / "checkpoints").rglob("*")]
    return sum(path.stat().st_blocks * 512 for path in paths if path.is_file() and not path.is_symlink()) / (1 << 20)


def announced(text: str) -> float:
    found = re.search(r"Disk: at most ([0-9.,]+) MiB", " ".join(text.split()))
    assert found, text
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize("capacity", [700, 100_000])
def test_announcement_is_a_near_upper_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str], capacity: int) -> None:
    settings = {**RUN, "replay.capacity": capacity, "env.num_envs": 2, "env.parallel": False, "checkpoint_every": 200}
    reverie.train(lambda: Counting(30), "debug", logdir=tmp_path, **settings)
    bound = announced(capsys.readouterr().out) + 0.5  # it is rounded
    taken = size(tmp_path)
    assert taken <= bound <= 5 * taken + 1, (taken, bound)


def test_announcement_on_a_small_disk_has_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    reverie.train(lambda: Counting(30), "debug", logdir=tmp_path, **{**RUN, "steps": 300, "prefill": 250})
    text = " ".join(capsys.readouterr().out.split())
    assert "It may not fit: lower replay.capacity or training.keep_checkpoints, or free some space." in text

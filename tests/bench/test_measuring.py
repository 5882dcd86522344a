"""Machine facts against other sources, and summaries of a handful of numbers, against numbers worked out by hand."""

import mmap
import os
import subprocess
from pathlib import Path

import psutil
import pytest
import torch

from reverie import provenance
from reverie.bench.measuring import CPU_FLAGS, machine, resident_mib, spread
from reverie.config import preset

CONFIG = preset("debug").override(device="cpu", precision="bf16")


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that the package seems to lie in."""
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "src" / "reverie" / "provenance.py"))
    return tmp_path


def test_no_commit_without_a_checkout(home: Path) -> None:
    assert machine(CONFIG)["commit"] is None


def test_the_commit_of_a_checkout(home: Path) -> None:
    git(home, "init", "-q")
    (home / "file").write_text("a")
    git(home, "add", "file")
    git(home, "commit", "-q", "-m", "x")
    git(home, "tag", "v1", "-m", "x")  # the name of a release would not say which commit it is
    head = git(home, "rev-parse", "HEAD")
    assert head.startswith(machine(CONFIG)["commit"])
    (home / "file").write_text("b")
    found = machine(CONFIG)["commit"]
    assert found.endswith("-dirty")
    assert head.startswith(found.removesuffix("-dirty"))


def test_settings_and_versions() -> None:
    facts = machine(CONFIG)
    assert (facts["precision"], facts["device"]) == ("bf16", "cpu")
    assert (facts["threads"], facts["torch"]) == (torch.get_num_threads(), torch.__version__)
    assert facts["python"].count(".") == 2
    assert facts["gpu"] is None or torch.cuda.is_available()
    assert facts["peak_gpu_mib"] is None


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo"), reason="Linux only")
def test_hardware() -> None:
    facts = machine(CONFIG)
    shown = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    assert facts["cpu"] in shown
    for flag in CPU_FLAGS:
        assert (flag in facts["cpu_flags"]) == (f" {flag} " in shown.replace("\n", " "))
    assert facts["cores"] == len(psutil.Process().cpu_affinity())


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux only")
def test_memory() -> None:
    size = 300
    before = resident_mib()
    assert before == pytest.approx(psutil.Process().memory_info().rss / 2**20, abs=8)
    with mmap.mmap(-1, size * 2**20) as block:  # which no allocator can take from what it has kept
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        during = resident_mib()
    assert during is not None and before is not None
    assert during - before == pytest.approx(size, abs=20)
    # The peak stays when the memory is given back.
    assert machine(CONFIG)["peak_resident_mib"] >= during - 1  # the kernel adds up in batches


@pytest.mark.parametrize(
    ("values", "median", "quartiles", "every"),
    [
        ([5.0, 1.0, 2.0, 4.0], 3.0, [1.75, 4.25], [5.0, 1.0, 2.0, 4.0]),  # interpolated
        ([2], 2.0, [2.0, 2.0], [2.0]),
        ([0.00123456789, 0.00123456789], 0.00123457, [0.00123457] * 2, [0.00123457] * 2),  # six digits
    ],
)
def test_spread(values: list[float], median: float, quartiles: list[float], every: list[float]) -> None:
    assert spread("x", values) == {"x_median": median, "x_quartiles": quartiles, "x_all": every}

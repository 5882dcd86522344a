"""The C library is compiled once, and plain modules are used where it cannot be."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reverie.kernels import library
from reverie.kernels.operations import bias_elu_backward

pytestmark = pytest.mark.skipif(library.load() is None, reason="no C compiler here")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    library.load.cache_clear()
    yield
    library.load.cache_clear()


def test_load_without_a_compiler_warns_and_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    with pytest.warns(UserWarning, match=r"could not be compiled .*no-such-compiler.*REVERIE_KERNELS=0"):
        assert library.load() is None


def test_load_without_a_home_folder_warns_and_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.warns(UserWarning, match=r"Could not determine home directory. Set HOME or XDG_CACHE_HOME"):
        assert library.load() is None


def test_load_repeated_compiles_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert library.load() is not None
    (path,) = (tmp_path / "reverie").iterdir()
    built = path.stat().st_mtime_ns
    library.load.cache_clear()
    assert library.load() is not None
    assert [path] == list((tmp_path / "reverie").iterdir()) and path.stat().st_mtime_ns == built


def test_num_threads_changed_takes_effect_at_once() -> None:
    """Each thread adds its rows in float32, where 2**24 + 1 is 2**24: the sum shows where the second thread began."""
    grad = torch.ones(4096, 8)
    grad[0] = 2.0**24
    before = torch.get_num_threads()
    try:
        for threads, expected in ((1, 2.0**24), (2, 2.0**24 + 2048), (1, 2.0**24)):
            torch.set_num_threads(threads)
            _, bias_grad = bias_elu_backward(grad, torch.ones(4096, 8))
            assert torch.equal(bias_grad, torch.full((8,), expected))
    finally:
        torch.set_num_threads(before)


def test_fewer_threads_than_requested_compute_all_rows() -> None:
    """OpenMP may start fewer threads without an error; the limit is read when it is loaded."""
    program = (
        "import torch; from reverie.kernels import strided_bf16\n"
        "from reverie.kernels.operations import bias_elu_backward\n"
        "torch.set_num_threads(2)\n"
        "assert bias_elu_backward(torch.ones(4096, 8), torch.ones(4096, 8))[1].eq(4096).all()\n"
        "image, pixels = (torch.ones(64, *size).bfloat16() for size in ((14, 14, 32), (6, 6, 64)))\n"
        "if strided_bf16.supports_kernel_gradient(image, pixels, 4):\n"
        "    assert strided_bf16.kernel_gradient(image, pixels, 4).eq(64 * 6 * 6).all()\n"
    )
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)

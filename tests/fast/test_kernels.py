"""The compiled loops are built once, and missed without harm."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reverie.agent import Dreamer
from reverie.bench.examples import example_spec, random_batch
from reverie.fast import kernels
from reverie.fast.operations import bias_elu_backward
from reverie.presets import preset


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    kernels.load.cache_clear()
    yield
    kernels.load.cache_clear()


def losses() -> dict[str, torch.Tensor]:
    spec = example_spec("debug")
    return Dreamer(preset("debug"), spec, seed=0).train_step(random_batch(spec, 5, 2), sample=False)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = losses()
    kernels.load.cache_clear()
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    with pytest.warns(UserWarning, match="could not be compiled .*no-such-compiler.*REVERIE_KERNELS=0"):
        plain = losses()
    assert kernels.load() is None
    for name, value in plain.items():
        torch.testing.assert_close(expected[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.warns(UserWarning, match="Could not determine home directory. Set HOME or XDG_CACHE_HOME"):
        assert kernels.load() is None


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVERIE_KERNELS", "0")
    assert kernels.load() is None


def test_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels.load() is not None
    (library,) = (tmp_path / "reverie").iterdir()
    built = library.stat().st_mtime_ns
    kernels.load.cache_clear()
    assert kernels.load() is not None
    assert [library] == list((tmp_path / "reverie").iterdir()) and library.stat().st_mtime_ns == built


def test_a_new_number_of_threads_is_obeyed_at_once() -> None:
    """Each thread adds its rows in float32, where 2**24 + 1 is 2**24: the sum tells where the second thread began."""
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


def test_fewer_threads_than_asked_for_miss_nothing() -> None:
    """OpenMP may refuse threads, and does so silently; the limit is read when it is loaded."""
    program = (
        "import torch; from reverie.fast import convolutions_avx512 as convolutions\n"
        "from reverie.fast.operations import bias_elu_backward\n"
        "torch.set_num_threads(2)\n"
        "assert bias_elu_backward(torch.ones(4096, 8), torch.ones(4096, 8))[1].eq(4096).all()\n"
        "image, pixels = torch.ones(64, 14, 14, 32), torch.ones(64, 6, 6, 64)\n"
        "if convolutions.serve_kernel_gradient(image, pixels, 4):\n"
        "    assert convolutions.kernel_gradient(image, pixels, 4).eq(64 * 6 * 6).all()\n"
    )
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)

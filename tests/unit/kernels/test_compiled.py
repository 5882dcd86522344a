"""Compiled RSSM steps: they can be traced as a whole and compute the same. No GPU has run them."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from reverie.kernels.compiled import CompiledMethod, can_compile

# In a process of its own: run-time type checks, which these tests have switched on, cannot be traced.
TRACED = """
import torch, warnings
from reverie.dreamer import Dreamer
from reverie.dreamer.rssm import RSSM
from reverie.kernels import compiled
from reverie.specs import EnvSpec
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, random_steps, tensors, tiny
warnings.simplefilter("error", RuntimeWarning)
compiled.OBSERVE_STEP, compiled.IMAGINE_STEP = (
    compiled.CompiledMethod(function, backend="aot_eager") for function in (RSSM.observe_step, RSSM.imagine_step)
)
plain, fast = (Dreamer(tiny(), EnvSpec(ATARI_IMAGE, CONTINUOUS), seed=0) for _ in range(2))
fast.world_model.rssm.__class__ = compiled.CompiledRSSM
for seed in range(2):
    batch = tensors(random_steps(plain.spec, (4, 2), seed))
    expected, actual = plain.train_step(batch), fast.train_step(batch)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-3, atol=1e-4, msg=name)
from torch._dynamo.utils import counters
assert counters["stats"]["unique_graphs"] >= 2, counters
"""


def test_compiled_rssm_matches_rssm() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRACED],
        env={**os.environ, "REVERIE_TYPECHECK": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def double(x: torch.Tensor) -> torch.Tensor:
    return x + x


def test_compiled_method_that_cannot_be_compiled_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    method = CompiledMethod(double)

    def fail(*arguments: Any) -> None:
        raise RuntimeError("there is no C compiler\nand more")

    monkeypatch.setattr(torch, "compile", lambda *arguments, **options: fail)
    with pytest.warns(RuntimeWarning, match=r"double could not be compiled \(there is no C compiler\)") as caught:
        assert method(torch.ones(())) == 2
        assert method(torch.ones(())) == 2
    assert len(caught) == 1


def test_compiled_method_raises_the_errors_of_its_function() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        CompiledMethod(double, backend="eager")(None)


def test_can_compile_on_a_cpu_is_false() -> None:
    assert not can_compile(torch.device("cpu"))


def test_import_of_kernels_does_not_import_the_compiler() -> None:
    program = "import sys, reverie.kernels; assert 'torch._inductor' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)

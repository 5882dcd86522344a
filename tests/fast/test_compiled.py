"""The steps that are compiled on a GPU can be traced as a whole, and compute the same."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from reverie.fast.compiled import Fusion, can_compile

# In a process of its own: run-time type checks, which these tests have switched on, cannot be traced.
TRACED = """
import torch, warnings
from reverie.agent import Dreamer
from reverie.fast import kernels
from reverie.fast.compiled import Fusion
from reverie.specs import EnvSpec
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, random_steps, tiny
warnings.simplefilter("error", RuntimeWarning)
kernels.load = lambda: None  # A CPU has a faster way of its own, which is not what a GPU runs.
spec = EnvSpec(ATARI_IMAGE, CONTINUOUS)
plain, fused = (Dreamer(tiny(training__precision="bf16"), spec) for _ in range(2))
fused._fusion = Fusion(fused.world_model.rssm, ("observe_step", "imagine_step"), backend="aot_eager")
for seed in range(2):
    batch = random_steps(spec, (4, 2), seed)
    expected, actual = plain.train_step(batch), fused.train_step(batch)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-3, atol=1e-4, msg=name)
from torch._dynamo.utils import counters
assert counters["stats"]["unique_graphs"] >= 2, counters
"""


def test_the_steps_can_be_traced() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRACED],
        env={**os.environ, "REVERIE_TYPECHECK": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class Doubling(nn.Module):
    def double(self, x: torch.Tensor) -> torch.Tensor:
        return x + x


def test_without_a_compiler_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Doubling()
    fusion = Fusion(module, ("double",))

    def fail(*arguments: Any) -> None:
        raise RuntimeError("there is no C compiler\nand more")

    monkeypatch.setattr(fusion._methods["double"], "_compiled", fail)
    with pytest.warns(RuntimeWarning, match=r"double is not compiled.*\(there is no C compiler\)") as caught, fusion:
        assert module.double(torch.ones(())) == 2
        assert module.double(torch.ones(())) == 2
    assert len(caught) == 1


def test_methods_are_the_plain_ones_outside() -> None:
    module = Doubling()
    with Fusion(module, ("double",)):
        assert "double" in vars(module)
    assert "double" not in vars(module)
    assert module.double(torch.ones(())) == 2


def test_errors_of_the_method_are_its_own() -> None:
    module = Doubling()
    with Fusion(module, ("double",), backend="eager"), pytest.raises(TypeError, match="unsupported operand"):
        module.double(None)  # type: ignore[arg-type]


def test_a_cpu_is_left_alone() -> None:
    assert not can_compile(torch.device("cpu"))

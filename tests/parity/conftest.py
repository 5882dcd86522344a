"""The reference numbers, from `tests/golden` or the folder that REVERIE_GOLDEN_DIR names."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.optimised import needs_kernels, optimised
from tests.parity.compare import DEVICE, Golden, LoadGolden, LoadWeights
from tests.parity.weights import load as load_weights

FOLDER = Path(os.environ.get("REVERIE_GOLDEN_DIR") or Path(__file__).parent.parent / "golden")


@pytest.fixture(scope="session")
def golden() -> LoadGolden:
    """`golden(name)` reads `<folder>/<name>.npz`: arrays by name, see `tests/golden/README.md`."""

    def load(name: str) -> Golden:
        path = FOLDER / f"{name}.npz"
        if not path.is_file():
            pytest.fail(
                f"The reference numbers {path} are missing: restore tests/golden from the repository, "
                "or set REVERIE_GOLDEN_DIR to a folder that holds them.",
                pytrace=False,
            )
        with np.load(path) as file:
            return dict(file)

    return load


@pytest.fixture(
    params=[
        "plain",
        pytest.param("optimised", marks=needs_kernels),
    ]
)
def convert(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """`convert(part)` returns the part as it is, or converted by `kernels.optimize`."""
    return optimised if request.param == "optimised" else lambda part: part


@pytest.fixture
def load(convert: Callable[[Any], Any]) -> LoadWeights:
    """`load(module, weights, …)` sets all parameters and converts the module in place."""

    def load_and_convert(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        load_weights(module, *args, **kwargs)
        convert(module)

    return load_and_convert


@pytest.fixture(autouse=True)
def full_precision() -> None:
    """Switch TF32 off, which PyTorch uses in convolutions on CUDA."""
    if DEVICE != "cpu":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False

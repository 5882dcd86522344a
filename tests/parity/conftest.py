"""The reference numbers, from `tests/golden` or the folder that REVERIE_GOLDEN_DIR names."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.compare import DEVICE, Golden, LoadGolden

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


@pytest.fixture(autouse=True)
def full_precision() -> None:
    """No TF32 in what is compared (it concerns CUDA only, where PyTorch uses it in convolutions)."""
    if DEVICE != "cpu":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False

"""Files 01: lambda-returns."""

import numpy as np
import pytest

from reverie.dreamer.actor_critic import lambda_return
from tests.parity.compare import FORWARD, GRADIENT, LoadGolden, close, group, leaf_gradients, tensor

CASES = (
    "T15_B8",
    "T1_B2",
    "T5_B3_lambda0",
    "T5_B3_lambda1",
    "T15_B4x6",
    "T10_B5_scalar_pcont",
    "T4_B2_no_bootstrap",
    "axis1",
)


@pytest.mark.parametrize("case", CASES)
def test_lambda_return_case_of_the_release_has_its_values(golden: LoadGolden, case: str) -> None:
    arrays = group(golden("01_lambda_return"), f"{case}/")
    # The release takes a time axis, a scalar discount and no bootstrap; here they are given explicitly.
    axis = int(arrays["axis"]) if "axis" in arrays else 0
    reward, value = (np.moveaxis(arrays[name], axis, 0) for name in ("reward", "value"))
    discount = arrays["pcont"]
    discount = np.full_like(reward, discount) if discount.ndim == 0 else np.moveaxis(discount, axis, 0)
    bootstrap = arrays.get("bootstrap", np.zeros_like(reward[0]))
    inputs = [tensor(array) for array in (reward, value, discount, bootstrap)]
    returns = lambda_return(*inputs, float(arrays["lambda"]))
    close(returns.movedim(0, axis), arrays["returns"], FORWARD)


def test_lambda_return_cotangent_has_the_gradients_of_the_release(golden: LoadGolden) -> None:
    arrays = group(golden("01_lambda_return"), "T15_B8/")
    names = ("reward", "value", "pcont", "bootstrap")
    inputs = [tensor(arrays[name], grad=True) for name in names]
    returns = lambda_return(*inputs, float(arrays["lambda"]))
    gradients = leaf_gradients((returns * tensor(arrays["cotangent"])).sum(), inputs)
    for name, gradient in zip(names, gradients, strict=True):
        close(gradient, arrays[f"grad_{name}"], GRADIENT, name)

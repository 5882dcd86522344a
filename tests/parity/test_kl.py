"""File 04: the balanced KL in all its variants."""

from itertools import product

import numpy as np
import pytest

from reverie.dreamer.latents import Categorical, Gaussian
from reverie.dreamer.world_model import balanced_kl
from tests.parity.compare import FORWARD, GRADIENT, LoadGolden, close, leaf_gradients, tensor


@pytest.mark.parametrize(
    ("inputs", "forward", "balance", "free", "average"),
    list(product(("set0", "set1"), (0, 1), (0.8, 0.5), (0.0, 1.0), (1, 0))),
)
def test_balanced_kl_of_categoricals_has_the_loss_and_gradients_of_the_release(
    golden: LoadGolden, inputs: str, forward: int, balance: float, free: float, average: int
) -> None:
    arrays = golden("04_kl_loss")
    posterior, prior = (tensor(arrays[f"{inputs}/{side}_logit"], grad=True) for side in ("post", "prior"))
    loss, value = balanced_kl(
        Categorical(4, 4),
        posterior,
        prior,
        balance=balance,
        free_nats=free,
        # At 0.5 the release clips each step whatever `free_avg` says.
        free_average=bool(average) and balance != 0.5,
        forward=bool(forward),
    )
    case = f"{inputs}/fwd{forward}_bal{balance}_free{free}_avg{average}"
    close(loss, arrays[f"{case}/loss"], FORWARD)
    close(value, arrays[f"{inputs}/fwd{forward}/value"], FORWARD)
    for gradient, side in zip(leaf_gradients(loss, [posterior, prior]), ("post", "prior"), strict=True):
        close(gradient, arrays[f"{case}/grad_{side}"], GRADIENT, side)


def test_balanced_kl_of_gaussians_has_the_loss_and_gradients_of_the_release(golden: LoadGolden) -> None:
    arrays = golden("04_kl_loss")
    stats = [np.stack([arrays[f"gauss/{side}_mean"], arrays[f"gauss/{side}_std"]], -2) for side in ("post", "prior")]
    posterior, prior = (tensor(part, grad=True) for part in stats)
    loss, value = balanced_kl(Gaussian(4, "sigmoid2", 0.1), posterior, prior, balance=0.8, free_nats=1.0)
    close(loss, arrays["gauss/loss"], FORWARD)
    close(value, arrays["gauss/value"], FORWARD)
    for gradient, side in zip(leaf_gradients(loss, [posterior, prior]), ("post", "prior"), strict=True):
        close(gradient.select(-2, 0), arrays[f"gauss/grad_{side}_mean"], GRADIENT, side)
        close(gradient.select(-2, 1), arrays[f"gauss/grad_{side}_std"], GRADIENT, side)

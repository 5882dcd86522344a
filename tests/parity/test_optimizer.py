"""File 08: clipping, weight decay and Adam over five steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from reverie.config import OptimizerConfig
from reverie.dreamer.optimizer import Optimizer
from tests.parity.compare import DEVICE, FORWARD, WEIGHT, LoadGolden, close, group, tensor


@pytest.mark.parametrize("case", ["default", "strong", "pattern", "bigeps"])
def test_optimizer_five_steps_have_the_weights_of_the_release(
    golden: LoadGolden, convert: Callable[[Any], Any], case: str
) -> None:
    arrays = group(golden("08_optimizer"), f"{case}/")
    kernels, biases = arrays["kernel"], arrays["bias"]
    layer = nn.Linear(kernels.shape[1], kernels.shape[2], device=DEVICE)
    with torch.no_grad():
        layer.weight.copy_(tensor(kernels[0].T))
        layer.bias.copy_(tensor(biases[0]))
    settings = {field: float(arrays[key]) for field, key in (("lr", "lr"), ("eps", "eps"), ("max_grad_norm", "clip"))}
    # The release's pattern "kernel" decays what is called kernel.
    decay = "kernels" if case == "pattern" else "all"
    config = OptimizerConfig(**settings, weight_decay=float(arrays["wd"]), weight_decay_on=decay)
    optimizer = convert(Optimizer([layer], config))
    for t, (kernel, bias) in enumerate(zip(tensor(arrays["gk"]), tensor(arrays["gb"]), strict=True)):
        # A loss whose gradients are the stored ones. The kernel's lies transposed in memory, as some of PyTorch's do.
        loss = (layer.weight * kernel.T).sum() + (layer.bias * bias).sum()
        norm, _ = optimizer.step(loss, optimizer.learning_rate(agent_step=0))
        close(norm, arrays["grad_norm"][t], FORWARD, f"norm of step {t}")
        close(layer.weight.T, kernels[t + 1], WEIGHT, f"kernel after step {t}")
        close(layer.bias, biases[t + 1], WEIGHT, f"bias after step {t}")
    # Two moments for each parameter; the release counts its step counter, too.
    moments = [name for name in optimizer.state_dict() if "exp_avg" in name]
    assert len(moments) == int(arrays["n_opt_variables"]) - 1

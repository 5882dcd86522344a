"""File 07: MLPs with their output distributions, and the gradients of their losses.

The mean of the truncated normal is not compared: nothing here has it.
"""

import numpy as np
import pytest
import torch

from reverie.config import ActorConfig, MLPConfig
from reverie.dreamer.distributions import bernoulli_log_prob, unit_normal_log_prob
from reverie.dreamer.heads import Actor
from reverie.dreamer.layers import MLP
from reverie.specs import ActionSpec
from tests.parity.compare import (
    DEVICE,
    FORWARD,
    GRADIENT,
    Golden,
    LoadGolden,
    LoadWeights,
    close,
    group,
    leaf_gradients,
    named_gradients,
    tensor,
)
from tests.parity.weights import close_gradients

SIZES = {"layers": 2, "units": 16}


def _close_loss(
    module: torch.nn.Module, feat: torch.Tensor, log_prob: torch.Tensor, arrays: Golden, head: str, root: str
) -> None:
    loss = -log_prob.mean()
    close(log_prob, arrays["log_prob"], FORWARD)
    close(loss, arrays["loss"], FORWARD)
    close(leaf_gradients(loss, [feat])[0], arrays["grad_feat"], GRADIENT)
    expected = {f"{head}/{name}": array for name, array in group(arrays, "grad/").items()}
    close_gradients(named_gradients(loss, module), expected, GRADIENT, root)


@pytest.mark.parametrize("case", ["mse", "mse_layernorm", "binary"])
def test_mlp_head_has_the_values_and_gradients_of_the_release(golden: LoadGolden, load: LoadWeights, case: str) -> None:
    file = golden("07_mlp_heads")
    arrays = group(file, f"{case}/")
    feat, target = tensor(file["feat"], grad=True), tensor(arrays["target"])
    mlp = MLP(feat.shape[-1], MLPConfig(**SIZES, layer_norm=case == "mse_layernorm"), outputs=1).to(DEVICE)
    root = "world_model.reward_head"
    load(mlp, {f"reward/{name}": array for name, array in group(arrays, "param/").items()}, root)
    out = mlp(feat).squeeze(-1)
    if case == "binary":
        log_prob, mean, mode = bernoulli_log_prob(out, target), out.sigmoid(), (out > 0).float()
    else:
        log_prob, mean, mode = unit_normal_log_prob(out, target, 0), out, out
    close(mean, arrays["mean"], FORWARD)
    close(mode, arrays["mode"].astype(np.float32), FORWARD)
    _close_loss(mlp, feat, log_prob, arrays, "reward", root)


@pytest.mark.parametrize("case", ["onehot", "trunc_normal"])
def test_actor_has_the_values_and_gradients_of_the_release(golden: LoadGolden, load: LoadWeights, case: str) -> None:
    file = golden("07_mlp_heads")
    arrays = group(file, f"{case}/")
    feat, target = tensor(file["feat"], grad=True), tensor(arrays["target"])
    size = arrays["target"].shape[-1]
    action = ActionSpec("discrete" if case == "onehot" else "continuous", (size,))
    actor = Actor(feat.shape[-1], action, ActorConfig(**SIZES, min_std=0.1)).to(DEVICE)
    root = "actor_critic.actor"
    load(actor, {f"actor/{name}": array for name, array in group(arrays, "param/").items()}, root)
    dist = actor(feat)
    close(dist.mode(), arrays["mode"], FORWARD)
    close(dist.entropy(), arrays["entropy"], FORWARD)
    if case == "onehot":
        close(dist.logits, arrays["logits"], FORWARD)
        close(dist.logits.softmax(-1), arrays["mean"], FORWARD)
    _close_loss(actor, feat, dist.log_prob(target), arrays, "actor", root)

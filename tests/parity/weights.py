"""Weights of the release under our names and in our layouts.

The release names a weight after its layer (`rssm/img_out_0/kernel`) and lays it out as Keras does: dense kernels
[in, out], convolutions [kh, kw, in, out], transposed convolutions [kh, kw, out, in]. A gradient is laid out as its
weight, so the same translation serves both.
"""

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tests.parity.compare import WEIGHT, Array, Golden, Tolerance, close, tensor

# Layer of the release -> module of `Dreamer`; `{n}` is the number of the layer.
LAYERS = {
    "encoder/conv{n}": "world_model.encoder.cnn.{n}.conv",
    "encoder/convnorm{n}": "world_model.encoder.cnn.{n}.norm",
    "encoder/dense{n}": "world_model.encoder.mlp.{n}.linear",
    "rssm/cell/dense": "world_model.rssm.cell.linear",
    "rssm/cell/norm": "world_model.rssm.cell.norm",
    "rssm/img_in": "world_model.rssm.input_layer.linear",
    "rssm/img_in_norm": "world_model.rssm.input_layer.norm",
    "rssm/img_out_0": "world_model.rssm.prior_layer.linear",
    "rssm/img_out_norm_0": "world_model.rssm.prior_layer.norm",
    "rssm/img_dist_0": "world_model.rssm.prior_head",
    "rssm/obs_out": "world_model.rssm.posterior_layer.linear",
    "rssm/obs_out_norm": "world_model.rssm.posterior_layer.norm",
    "rssm/obs_dist": "world_model.rssm.posterior_head",
    "decoder/convin": "world_model.decoder.cnn.linear",
    "decoder/conv{n}": "world_model.decoder.cnn.layers.{n}.conv",
    "decoder/convnorm{n}": "world_model.decoder.cnn.layers.{n}.norm",
    "decoder/dense{n}": "world_model.decoder.mlp.{n}.linear",
    # Vector observations, in the order of file 06c.
    "decoder/dense_vec_b/out": "world_model.decoder.heads.0",
    "decoder/dense_vec_a/out": "world_model.decoder.heads.1",
    "actor/dense{n}": "actor_critic.actor.body.{n}.linear",
    "actor/norm{n}": "actor_critic.actor.body.{n}.norm",
    "actor/out/out": "actor_critic.actor.head",
    "actor/out/std": "actor_critic.actor.std_head",
}
MLPS = {
    "reward": "world_model.reward_head",
    "discount": "world_model.discount_head",
    "critic": "actor_critic.critic.mlp",
    "target_critic": "actor_critic.target_critic.mlp",
}
for _head, _module in MLPS.items():
    LAYERS[f"{_head}/dense{{n}}"] = f"{_module}.{{n}}.linear"
    LAYERS[f"{_head}/norm{{n}}"] = f"{_module}.{{n}}.norm"
    # The output layer comes last in our MLP: its number is that of the hidden layers.
    LAYERS[f"{_head}/out/out"] = f"{_module}.{{hidden}}"

KINDS = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def _module_of(layer: str, all_layers: set[str]) -> str:
    if layer in LAYERS:
        hidden = {other for other in all_layers if re.fullmatch(rf"{layer.split('/')[0]}/dense\d+", other)}
        return LAYERS[layer].format(hidden=len(hidden))
    match = re.fullmatch(r"(.*?)(\d+)", layer)
    template = LAYERS.get(f"{match.group(1)}{{n}}") if match else None
    assert match and template, f"the reference has a layer {layer} that weights.py does not know"
    return template.format(n=match.group(2))


def _our_layout(array: Array) -> Array:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T if array.ndim == 2 else array


def translate(weights: Golden, root: str = "") -> Golden:
    """Our names and layouts.

    Args:
        weights: by the release's names, such as `rssm/img_in/kernel`.
        root: module of `Dreamer` that names are relative to, such as `world_model.rssm`; empty is the agent itself.
    """
    layers = {name.rpartition("/")[0] for name in weights}
    result = {}
    for name, array in weights.items():
        layer, _, kind = name.rpartition("/")
        ours = f"{_module_of(layer, layers)}.{KINDS[kind]}"
        assert ours.startswith(root), f"{name} is no weight of {root}"
        result[ours.removeprefix(root).removeprefix(".")] = _our_layout(array)
    assert len(result) == len(weights), "two weights of the reference have one name here"
    return result


def parameters(module: nn.Module) -> dict[str, Tensor]:
    """All parameters by name, those of the target critic included."""
    return dict(module.named_parameters())


@torch.no_grad()
def load(module: nn.Module, weights: Golden, root: str = "", unset: Sequence[str] = ()) -> None:
    """Set the parameters of a module, all of them, from all the given weights.

    Args:
        module: part of `Dreamer` that `root` names.
        weights: see `translate`.
        root: see `translate`.
        unset: beginnings of the names of parameters that the file does not have, and only those.
    """
    ours, theirs = parameters(module), translate(weights, root)
    missing = {name for name in ours if name.startswith(tuple(unset))} if unset else set()
    unknown, forgotten = theirs.keys() - (ours.keys() - missing), ours.keys() - missing - theirs.keys()
    assert not unknown, f"weights of the reference that have no place here: {sorted(unknown)}"
    assert not forgotten, f"parameters that the reference does not set: {sorted(forgotten)}"
    for name, array in theirs.items():
        assert ours[name].shape == array.shape, f"{name}: {tuple(ours[name].shape)} here, {array.shape} there"
        ours[name].copy_(tensor(array))


def close_weights(module: nn.Module, weights: Golden, root: str = "", outliers: float = 0.0) -> None:
    """Compare parameters after optimizer steps.

    Args:
        module: see `load`.
        weights: see `translate`.
        root: see `translate`.
        outliers: share of all entries that may miss the tolerance, by at most a factor of five.
    """
    ours, theirs = parameters(module), translate(weights, root)
    assert ours.keys() == theirs.keys()
    limits = WEIGHT | {"atol": 5 * WEIGHT["atol"]} if outliers else WEIGHT
    missed = 0
    for name, value in ours.items():
        close(value, theirs[name], limits, name)
        missed += int((np.abs(value.detach().cpu().numpy() - theirs[name]) > WEIGHT["atol"]).sum())
    assert missed <= outliers * sum(value.numel() for value in ours.values())


def close_gradients(gradients: dict[str, Tensor], expected: Golden, tolerance: Tolerance, root: str = "") -> None:
    """Compare gradients by name: every one of ours with every one of theirs."""
    theirs = translate(expected, root)
    assert gradients.keys() == theirs.keys()
    for name, gradient in gradients.items():
        close(gradient, theirs[name], tolerance, f"gradient of {name}")

"""Files 06: encoder and decoder for images, with and without layer norm, and for images and vectors together."""

import numpy as np
import pytest

from reverie.config import DecoderConfig, EncoderConfig, MLPConfig
from reverie.dreamer.distributions import unit_normal_log_prob
from reverie.dreamer.encoder_decoder import Decoder, Encoder
from reverie.specs import ArraySpec
from tests.parity.compare import (
    DEVICE,
    FORWARD,
    GRADIENT,
    Golden,
    LoadGolden,
    LoadWeights,
    close,
    group,
    image_gradient,
    leaf_gradients,
    named_gradients,
    tensor,
)
from tests.parity.weights import close_gradients

ENCODER, DECODER = "world_model.encoder", "world_model.decoder"
FILES = {"06_encoder_decoder": False, "06b_encoder_decoder_layernorm": True}
MIXED = {
    "image": ArraySpec((64, 64, 3), "uint8"),
    "vec_b": ArraySpec((5,), "float32"),
    "vec_a": ArraySpec((3,), "float32"),
}


def _network_input(arrays: Golden) -> np.ndarray:
    return arrays["image_uint8"].astype(np.float32) / 255 - 0.5


def _part(arrays: Golden, prefix: str, part: str) -> Golden:
    return {f"{part}/{name}": array for name, array in group(arrays, f"{prefix}/{part}/").items()}


def _networks(load: LoadWeights, arrays: Golden, layer_norm: bool) -> tuple[Encoder, Decoder]:
    observations = {"image": ArraySpec((64, 64, 1), "uint8")}
    encoder = Encoder(observations, EncoderConfig(cnn_depth=4, layer_norm=layer_norm)).to(DEVICE)
    decoder = Decoder(observations, arrays["feat"].shape[-1], DecoderConfig(cnn_depth=4, layer_norm=layer_norm))
    load(encoder, _part(arrays, "param", "encoder"), ENCODER)
    load(decoder.to(DEVICE), _part(arrays, "param", "decoder"), DECODER)
    return encoder, decoder


@pytest.mark.parametrize("name", FILES)
def test_encoder_images_have_the_embedding_and_gradients_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    arrays = golden(name)
    encoder, _ = _networks(load, arrays, FILES[name])
    image = tensor(_network_input(arrays), grad=True)
    embed = encoder({"image": image})
    close(embed, arrays["embed"], FORWARD)
    loss = (embed * tensor(arrays["embed_cotangent"])).sum()
    close(leaf_gradients(loss, [image])[0], arrays["grad_image"], GRADIENT)
    close_gradients(named_gradients(loss, encoder), _part(arrays, "grad", "encoder"), image_gradient, ENCODER)


@pytest.mark.parametrize("name", FILES)
def test_decoder_images_have_the_values_and_gradients_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    arrays = golden(name)
    _, decoder = _networks(load, arrays, FILES[name])
    feat = tensor(arrays["feat"], grad=True)
    mean = decoder.images(feat)["image"]
    close(mean, arrays["recon_mean"], FORWARD)
    log_prob = unit_normal_log_prob(mean, tensor(_network_input(arrays)), 3)
    close(log_prob, arrays["recon_log_prob"], FORWARD)
    loss = -log_prob.mean()
    close(loss, arrays["recon_loss"], FORWARD)
    close(leaf_gradients(loss, [feat])[0], arrays["grad_feat"], GRADIENT)
    close_gradients(named_gradients(loss, decoder), _part(arrays, "grad", "decoder"), image_gradient, DECODER)
    assert decoder.vectors(feat) == {}


def test_encoder_and_decoder_images_and_vectors_have_the_values_of_the_release(
    golden: LoadGolden, load: LoadWeights
) -> None:
    arrays = golden("06c_encoder_decoder_mlp")
    mlp = MLPConfig(layers=2, units=16)
    encoder = Encoder(MIXED, EncoderConfig(cnn_depth=2, mlp=mlp)).to(DEVICE)
    decoder = Decoder(MIXED, arrays["feat"].shape[-1], DecoderConfig(cnn_depth=2, mlp=mlp)).to(DEVICE)
    load(encoder, _part(arrays, "param", "encoder"), ENCODER)
    load(decoder, _part(arrays, "param", "decoder"), DECODER)
    observation = {"image": tensor(_network_input(arrays))}
    observation |= {key: tensor(arrays[key]) for key in ("vec_b", "vec_a")}
    close(encoder(observation), arrays["embed"], FORWARD)
    feat = tensor(arrays["feat"])
    means = decoder.images(feat) | decoder.vectors(feat)
    assert means.keys() == MIXED.keys()
    for key, mean in means.items():
        close(mean, arrays[f"recon/{key}"], FORWARD, key)
        log_prob = unit_normal_log_prob(mean, observation[key], len(MIXED[key].shape))
        close(log_prob, arrays[f"log_prob/{key}"], FORWARD, key)

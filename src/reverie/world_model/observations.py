"""Encoder and decoder for dictionaries of images and vectors."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.config import DecoderConfig, EncoderConfig
from reverie.errors import ConfigError
from reverie.networks.cnn import ImageDecoder, ImageEncoder
from reverie.networks.layers import MLP
from reverie.spaces import ArraySpec


class Keys:
    """Which observation keys are images and which are vectors, in the environment's order."""

    def __init__(self, observations: Mapping[str, ArraySpec], selected: tuple[str, ...], field: str) -> None:
        unknown = [key for key in selected if key not in observations]
        if unknown:
            raise ConfigError(f"{field} names '{unknown[0]}', but the environment has {', '.join(observations)}.")
        chosen = {key: spec for key, spec in observations.items() if not selected or key in selected}
        self.images = {key: spec.shape[-1] for key, spec in chosen.items() if spec.is_image}
        self.vectors = {key: spec.size for key, spec in chosen.items() if not spec.is_image}
        if not chosen:
            raise ConfigError(f"{field}: the environment has no observations.")

    @property
    def channels(self) -> int:
        """Of all images together."""
        return sum(self.images.values())

    @property
    def width(self) -> int:
        """Of all vectors together."""
        return sum(self.vectors.values())


class Encoder(nn.Module):
    """Images, stacked along channels, through convolutions; vectors, concatenated, through an MLP (SPEC 13)."""

    def __init__(self, observations: Mapping[str, ArraySpec], config: EncoderConfig) -> None:
        super().__init__()
        self.keys = Keys(observations, config.keys, "world_model.encoder.keys")
        self.output_size = 0
        if self.keys.images:
            self.cnn = ImageEncoder(self.keys.channels, config.cnn_depth, config.layer_norm)
            self.output_size += self.cnn.output_size
        if self.keys.vectors:
            self.mlp = MLP(self.keys.width, config.mlp)
            self.output_size += self.mlp.output_size

    def forward(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "*N E"]:
        """Embed preprocessed observations [..., *shape]; images first."""
        parts = []
        if self.keys.images:
            image = torch.cat([observation[key] for key in self.keys.images], -1)
            parts.append(self.cnn(image.flatten(0, -4)).unflatten(0, image.shape[:-3]))
        if self.keys.vectors:
            parts.append(self.mlp(torch.cat([observation[key] for key in self.keys.vectors], -1)))
        return torch.cat([part.to(parts[0].dtype) for part in parts], -1)


class Decoder(nn.Module):
    """p(x | h, s): the mean of each observation, under unit variance (SPEC 14, 15)."""

    def __init__(self, observations: Mapping[str, ArraySpec], inputs: int, config: DecoderConfig) -> None:
        super().__init__()
        self.keys = Keys(observations, config.keys, "world_model.decoder.keys")
        if self.keys.images:
            self.cnn = ImageDecoder(inputs, self.keys.channels, config.cnn_depth, config.layer_norm)
        if self.keys.vectors:
            self.mlp = MLP(inputs, config.mlp)
            # Not keyed by observation: module names cannot hold every key.
            self.heads = nn.ModuleList(nn.Linear(self.mlp.output_size, size) for size in self.keys.vectors.values())

    def images(self, feat: Float[Tensor, "*N F"]) -> dict[str, Float[Tensor, "*N 64 64 C"]]:
        """Mean images, in the space of `preprocess`."""
        if not self.keys.images:
            return {}
        image = self.cnn(feat.flatten(0, -2)).unflatten(0, feat.shape[:-1]).float()
        parts = image.split(list(self.keys.images.values()), -1)
        return dict(zip(self.keys.images, parts, strict=True))

    def vectors(self, feat: Float[Tensor, "*N F"]) -> dict[str, Float[Tensor, "*N V"]]:
        """Mean vectors."""
        if not self.keys.vectors:
            return {}
        hidden = self.mlp(feat)
        return {key: head(hidden).float() for key, head in zip(self.keys.vectors, self.heads, strict=True)}

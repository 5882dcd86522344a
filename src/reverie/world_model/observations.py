"""Encoder and decoder for dictionaries of images and vectors, and the scale of vectors."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reverie.config import DecoderConfig, EncoderConfig
from reverie.errors import ConfigError
from reverie.networks.cnn import ImageDecoder, ImageEncoder
from reverie.networks.layers import MLP
from reverie.specs import ArraySpec


class Keys:
    """The keys of a part of the world model, images and vectors apart, in the environment's order.

    Args:
        observations: of the environment.
        config: its `keys` and `kinds` select.
        part: path of `config`, for messages.

    Raises:
        ConfigError: if a selected key is absent or of another kind, or nothing is left.
    """

    def __init__(self, observations: Mapping[str, ArraySpec], config: EncoderConfig, part: str) -> None:
        names, kinds = ", ".join(observations), config.kinds
        for key in config.keys:
            if key not in observations:
                raise ConfigError(f"{part}.keys names '{key}', but the environment has {names}.")
        kind_of = {key: "images" if spec.is_image else "vectors" for key, spec in observations.items()}
        fitting = {key: spec for key, spec in observations.items() if kinds in ("all", kind_of[key])}
        for key in config.keys:
            if key not in fitting:
                raise ConfigError(f"{part}.keys names '{key}', which is not among the {kinds} of {part}.kinds.")
        if observations and not fitting:
            other, preset = ("vectors", "dmc-proprio") if kinds == "images" else ("images", "dmc-vision")
            raise ConfigError(
                f"{part}.kinds is {kinds}, but the environment has {other} only ({names}). Set it to {other} or all, "
                f"or take another preset, such as {preset}."
            )
        chosen = {key: spec for key, spec in fitting.items() if not config.keys or key in config.keys}
        self.images = {key: spec.shape[-1] for key, spec in chosen.items() if spec.is_image}
        self.vectors = {key: spec.size for key, spec in chosen.items() if not spec.is_image}
        if not chosen:
            raise ConfigError(f"{part}: the environment has no observations.")

    @property
    def channels(self) -> int:
        """Of all images together."""
        return sum(self.images.values())

    @property
    def width(self) -> int:
        """Of all vectors together."""
        return sum(self.vectors.values())


class VectorNorm(nn.Module):
    """Standardises vector observations by a running mean and variance (not in the release).

    Entries of an observation may differ in size by orders of magnitude: in CartPole the cart moves by metres and the
    pole by hundredths of a radian, which a decoder of unit variance has next to no reason to predict.
    """

    MEMORY = 1_000
    """Batches over which the statistics are averaged: all of them equally up to here, exponentially afterwards."""
    LIMIT = 10.0
    """Largest magnitude of a result; what the statistics do not know yet may be far outside."""

    mean: Float[Tensor, "V"]
    variance: Float[Tensor, "V"]
    batches: Int[Tensor, ""]

    def __init__(self, observations: Mapping[str, ArraySpec]) -> None:
        super().__init__()
        self.keys = {key: spec.size for key, spec in observations.items() if not spec.is_image}
        width = sum(self.keys.values())
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, observation: Mapping[str, Tensor]) -> None:
        """Take a batch of raw observations [..., V] into the statistics, whatever its size.

        An entry whose statistics would not be finite keeps those it has.
        """
        if not self.keys:
            return
        values = torch.cat([observation[key].float() for key in self.keys], -1).flatten(0, -2)
        self.batches.add_(1)
        share = (1 / self.batches).clamp(min=1 / self.MEMORY)
        shift = values.mean(0) - self.mean
        # Variance of the mixture of what was known and the batch.
        variance = self.variance + share * (values.var(0, correction=0) - self.variance + (1 - share) * shift.square())
        mean = self.mean + share * shift
        sound = variance.isfinite() & mean.isfinite()
        self.variance.copy_(torch.where(sound, variance, self.variance))
        self.mean.copy_(torch.where(sound, mean, self.mean))

    def forward(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The vectors among the observations [..., V], standardised; before the first update as they are."""
        sizes = list(self.keys.values())
        scale = (self.variance + 1e-8).sqrt()
        parts = zip(self.keys, self.mean.split(sizes), scale.split(sizes), strict=True)
        return {
            key: ((observation[key] - mean) / deviation).clamp(-self.LIMIT, self.LIMIT)
            for key, mean, deviation in parts
        }


class Encoder(nn.Module):
    """Images, stacked along channels, through convolutions; vectors, concatenated, through an MLP (SPEC 13)."""

    def __init__(self, observations: Mapping[str, ArraySpec], config: EncoderConfig) -> None:
        super().__init__()
        self.keys = Keys(observations, config, "world_model.encoder")
        self.output_size = 0
        if self.keys.images:
            self.cnn = ImageEncoder(self.keys.channels, config.cnn_depth, config.layer_norm, config.cnn_activation)
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
        self.keys = Keys(observations, config, "world_model.decoder")
        if self.keys.images:
            sizes = (inputs, self.keys.channels, config.cnn_depth)
            self.cnn = ImageDecoder(*sizes, config.layer_norm, config.cnn_activation)
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

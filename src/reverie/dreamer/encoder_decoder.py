"""Encoder and decoder for dictionaries of images and vectors (SPEC 13 to 15)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reverie.config import ConfigError, DecoderConfig, EncoderConfig
from reverie.dreamer.layers import MLP, LayerNorm, whole_mean
from reverie.specs import ArraySpec

ENCODER_KERNELS = (4, 4, 4, 4)  # 64 -> 31 -> 14 -> 6 -> 2
DECODER_KERNELS = (5, 5, 6, 6)  # 1 -> 5 -> 13 -> 30 -> 64
ACTIVATIONS = {"elu": nn.ELU, "relu": nn.ReLU, "none": nn.Identity}


class ConvLayer(nn.Module):
    """Convolution or transposed convolution of stride 2, layer norm if asked for, activation."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, layer_norm: bool, activation: str) -> None:
        super().__init__()
        self.conv = conv
        self.norm = LayerNorm(conv.out_channels) if layer_norm else nn.Identity()
        self.activation: nn.Module = ACTIVATIONS[activation]()

    def forward(self, image: Float[Tensor, "N H W C"]) -> Float[Tensor, "N H2 W2 C2"]:
        """Apply the layer to images with channels last."""
        return self.activation(self.norm(self.conv(image.movedim(-1, 1)).movedim(1, -1)))


class ImageEncoder(nn.Sequential):
    """Four convolutions with d, 2d, 4d and 8d channels, flattened to a vector of 32 d entries."""

    def __init__(self, channels: int, config: EncoderConfig) -> None:
        depth = config.cnn_depth
        sizes = [channels, depth, 2 * depth, 4 * depth, 8 * depth]
        super().__init__(
            *(
                ConvLayer(nn.Conv2d(i, o, kernel, stride=2), config.layer_norm, config.cnn_activation)
                for i, o, kernel in zip(sizes[:-1], sizes[1:], ENCODER_KERNELS, strict=True)
            )
        )
        self.output_size = 2 * 2 * sizes[-1]

    def forward(self, input: Float[Tensor, "N 64 64 C"]) -> Float[Tensor, "N E"]:
        """Embed images; entries are ordered by height, width, channel."""
        for layer in self:
            input = layer(input)
        return input.flatten(1)


class ImageDecoder(nn.Module):
    """Linear layer to one pixel of 32 d channels, then four transposed convolutions with 4d, 2d, d and C channels."""

    def __init__(self, inputs: int, channels: int, config: DecoderConfig) -> None:
        super().__init__()
        depth = config.cnn_depth
        sizes = [32 * depth, 4 * depth, 2 * depth, depth, channels]
        self.linear = nn.Linear(inputs, sizes[0])
        convs = [
            nn.ConvTranspose2d(i, o, kernel, stride=2)
            for i, o, kernel in zip(sizes[:-1], sizes[1:], DECODER_KERNELS, strict=True)
        ]
        hidden = (ConvLayer(conv, config.layer_norm, config.cnn_activation) for conv in convs[:-1])
        self.layers = nn.Sequential(*hidden, ConvLayer(convs[-1], layer_norm=False, activation="none"))

    def forward(self, feat: Float[Tensor, "N F"]) -> Float[Tensor, "N 64 64 C"]:
        """Return mean images, with pixels in the encoder's range: pixel / 255 - 0.5."""
        return self.layers(self.linear(feat)[:, None, None, :])


class ObservationKeys:
    """Keys of the observations that an encoder reads or a decoder predicts, in the environment's order.

    Args:
        observations: all observations of the environment.
        config: selects by `keys` and `kinds`.
        path: path of `config`, for messages.

    Raises:
        ConfigError: if a selected key is missing or of another kind, or if none is left.
    """

    def __init__(self, observations: Mapping[str, ArraySpec], config: EncoderConfig, path: str) -> None:
        names, kinds = ", ".join(observations), config.kinds
        for key in config.keys:
            if key not in observations:
                raise ConfigError(f"{path}.keys names '{key}', but the environment has {names}.")
        kind_of = {key: "images" if spec.is_image else "vectors" for key, spec in observations.items()}
        fitting = {key: spec for key, spec in observations.items() if kinds in ("all", kind_of[key])}
        for key in config.keys:
            if key not in fitting:
                raise ConfigError(f"{path}.keys names '{key}', which is not among the {kinds} of {path}.kinds.")
        if observations and not fitting:
            other, preset = ("vectors", "dmc-proprio") if kinds == "images" else ("images", "dmc-vision")
            raise ConfigError(
                f"{path}.kinds is {kinds}, but the environment has {other} only ({names}). Set it to {other} or all, "
                f"or use another preset, such as {preset}."
            )
        chosen = {key: spec for key, spec in fitting.items() if not config.keys or key in config.keys}
        if not chosen:
            raise ConfigError(f"{path}: the environment has no observations.")
        self.images = {key: spec.shape[-1] for key, spec in chosen.items() if spec.is_image}
        """Channels by key."""
        self.vectors = {key: spec.size for key, spec in chosen.items() if not spec.is_image}
        """Widths by key."""


class VectorNorm(nn.Module):
    """Standardise vector observations by a running mean and variance (not in the release).

    Entries of an observation may differ in scale by orders of magnitude: in CartPole the cart moves by metres and the
    pole by hundredths of a radian, which a decoder of unit variance has almost no reason to predict.
    """

    WINDOW = 1_000
    """Batches that the statistics average over: uniformly up to this number, exponentially afterwards."""
    LIMIT = 10.0
    """Largest magnitude of a standardised entry."""

    whole_mean = staticmethod(whole_mean)
    mean: Float[Tensor, "V"]
    variance: Float[Tensor, "V"]
    num_batches: Int[Tensor, ""]

    def __init__(self, observations: Mapping[str, ArraySpec]) -> None:
        super().__init__()
        self.keys = {key: spec.size for key, spec in observations.items() if not spec.is_image}
        width = sum(self.keys.values())
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, observation: Mapping[str, Tensor]) -> None:
        """Update the statistics with a batch of raw observations [..., V]; non-finite statistics are not taken."""
        if not self.keys:
            return
        values = torch.cat([observation[key].float() for key in self.keys], -1).flatten(0, -2)
        self.num_batches.add_(1)
        share = (1 / self.num_batches).clamp(min=1 / self.WINDOW)
        batch_mean = self.whole_mean(values.mean(0))
        batch_variance = self.whole_mean((values - batch_mean).square().mean(0))
        shift = batch_mean - self.mean
        # Mean and variance of a mixture: 1 - share of the statistics so far, share of the batch.
        mean = self.mean + share * shift
        variance = self.variance + share * (batch_variance - self.variance + (1 - share) * shift.square())
        is_valid = variance.isfinite() & mean.isfinite()
        self.mean.copy_(torch.where(is_valid, mean, self.mean))
        self.variance.copy_(torch.where(is_valid, variance, self.variance))

    def forward(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the standardised vectors among the observations [..., V]."""
        sizes = list(self.keys.values())
        scale = (self.variance + 1e-8).sqrt()
        parts = zip(self.keys, self.mean.split(sizes), scale.split(sizes), strict=True)
        return {
            key: ((observation[key] - mean) / deviation).clamp(-self.LIMIT, self.LIMIT)
            for key, mean, deviation in parts
        }

    def invert(self, key: str, value: Float[Tensor, "*N V"]) -> Float[Tensor, "*N V"]:
        """Return a vector observation from its standardised one, which may have been clipped."""
        sizes = list(self.keys.values())
        parts = zip(self.mean.split(sizes), (self.variance + 1e-8).sqrt().split(sizes), strict=True)
        mean, deviation = dict(zip(self.keys, parts, strict=True))[key]
        return value * deviation + mean


class Encoder(nn.Module):
    """Images, concatenated along channels, through convolutions; vectors, concatenated, through an MLP (SPEC 13)."""

    def __init__(self, observations: Mapping[str, ArraySpec], config: EncoderConfig) -> None:
        super().__init__()
        self.keys = ObservationKeys(observations, config, "world_model.encoder")
        self.output_size = 0
        if self.keys.images:
            self.cnn = ImageEncoder(sum(self.keys.images.values()), config)
            self.output_size += self.cnn.output_size
        if self.keys.vectors:
            self.mlp = MLP(sum(self.keys.vectors.values()), config.mlp)
            self.output_size += self.mlp.output_size

    def forward(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "*N E"]:
        """Embed preprocessed observations [..., *shape]; the images' part comes first."""
        parts = []
        if self.keys.images:
            image = torch.cat([observation[key] for key in self.keys.images], -1)
            parts.append(self.cnn(image.flatten(0, -4)).unflatten(0, image.shape[:-3]))
        if self.keys.vectors:
            parts.append(self.mlp(torch.cat([observation[key] for key in self.keys.vectors], -1)))
        return torch.cat([part.to(parts[0].dtype) for part in parts], -1)


class Decoder(nn.Module):
    """p(x_t | h_t, s_t): the mean of each observation, under unit variance (SPEC 14, 15)."""

    def __init__(self, observations: Mapping[str, ArraySpec], inputs: int, config: DecoderConfig) -> None:
        super().__init__()
        self.keys = ObservationKeys(observations, config, "world_model.decoder")
        if self.keys.images:
            self.cnn = ImageDecoder(inputs, sum(self.keys.images.values()), config)
        if self.keys.vectors:
            self.mlp = MLP(inputs, config.mlp)
            # A list and not a dictionary: names of modules cannot hold every key.
            self.heads = nn.ModuleList(nn.Linear(self.mlp.output_size, size) for size in self.keys.vectors.values())

    def images(self, feat: Float[Tensor, "*N F"]) -> dict[str, Float[Tensor, "*N 64 64 C"]]:
        """Return mean images by key, preprocessed."""
        if not self.keys.images:
            return {}
        image = self.cnn(feat.flatten(0, -2)).unflatten(0, feat.shape[:-1]).float()
        parts = image.split(list(self.keys.images.values()), -1)
        return dict(zip(self.keys.images, parts, strict=True))

    def vectors(self, feat: Float[Tensor, "*N F"]) -> dict[str, Float[Tensor, "*N V"]]:
        """Return mean vectors by key, preprocessed."""
        if not self.keys.vectors:
            return {}
        hidden = self.mlp(feat)
        return {key: head(hidden).float() for key, head in zip(self.keys.vectors, self.heads, strict=True)}

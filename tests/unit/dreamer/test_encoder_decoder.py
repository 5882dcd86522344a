"""Encoder and decoder of dictionaries, the choice of their keys, and standardised vectors."""

import numpy as np
import pytest
import torch

from reverie.config import DecoderConfig, EncoderConfig, preset
from reverie.dreamer import Dreamer
from reverie.dreamer.encoder_decoder import Decoder, Encoder, VectorNorm
from reverie.errors import ConfigError
from reverie.specs import ArraySpec, EnvSpec
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, DICT, DISCRETE, TINY, random_steps, tensors, tiny

TWO_VECTORS = {"pole": ArraySpec((2,), "float32"), "cart": ArraySpec((1,), "float32")}
SIZES = torch.tensor([[1e-2, 3.0, 1e3]])
OFFSETS = torch.tensor([[5.0, -1.0, 1e3]])


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# --- networks --------------------------------------------------------------------------------------------------------


def test_encoder_and_decoder_of_images_and_vectors_have_their_shapes() -> None:
    """Any leading axes; images come first in the embedding, channels are split between images."""
    encoder = Encoder(DICT, EncoderConfig(cnn_depth=2))
    decoder = Decoder(DICT, 11, DecoderConfig(cnn_depth=2))
    observation = {key: draw(2, 3, *spec.shape) for key, spec in DICT.items()}
    embed = encoder(observation)
    assert embed.shape == (2, 3, encoder.output_size)
    other = encoder(observation | {"speed": 1 + observation["speed"]})
    images = encoder.cnn.output_size
    assert torch.equal(embed[..., :images], other[..., :images])
    assert not torch.equal(embed[..., images:], other[..., images:])
    means = decoder.images(draw(2, 3, 11)) | decoder.vectors(draw(2, 3, 11))
    assert {key: mean.shape[2:] for key, mean in means.items()} == {key: spec.shape for key, spec in DICT.items()}


def test_encoder_leading_axes_do_not_change_the_embedding() -> None:
    encoder = Encoder(ATARI_IMAGE, EncoderConfig(cnn_depth=2, layer_norm=True))
    image = draw(2, 3, 64, 64, 1)
    torch.testing.assert_close(encoder({"image": image})[1], encoder({"image": image[1]}))


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "read"), [("dmc-vision", {"image", "wrist"}), ("dmc-proprio", {"position", "speed"})])
def test_dmc_presets_of_any_keys_read_the_kind_of_the_release(name: str, read: set[str]) -> None:
    """Keys of the other kind change neither an update nor a decision after it."""
    mlps = ("behavior.actor", "behavior.critic", "world_model.reward_head")
    mlps += ("world_model.encoder.mlp", "world_model.decoder.mlp")
    small = {f"{mlp}.units": 8 for mlp in mlps}
    small |= {f"world_model.rssm.{size}": 8 for size in ("deter", "hidden", "stoch", "classes")}
    agent = Dreamer(preset(name).override(**TINY, **small), EnvSpec(DICT, CONTINUOUS))
    steps = tensors(random_steps(agent.spec, (3, 2)))
    metrics = agent.train_step(steps)
    predicted = {key.removeprefix("model/").removesuffix("_loss") for key in metrics if key.endswith("_loss")}
    assert predicted & set(DICT) == read
    latest = {key: value[-1] for key, value in steps.items()}
    others = {key: torch.zeros_like(value) for key, value in latest.items() if key in set(DICT) - read}
    states = [agent.recurrent_policy(latest | changed) for changed in ({}, others)]
    assert torch.equal(states[0].latent.stats, states[1].latent.stats)


@pytest.mark.parametrize(
    ("name", "observations", "words"),
    [
        (
            "dmc-vision",
            {"joints": ArraySpec((3,), "float32")},
            "kinds is images, but .* vectors only .joints.*dmc-proprio",
        ),
        ("dmc-proprio", ATARI_IMAGE, "kinds is vectors, but .* images only .image.*dmc-vision"),
    ],
)
def test_dmc_presets_environment_without_their_kind_is_refused(
    name: str, observations: dict[str, ArraySpec], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        Dreamer(preset(name), EnvSpec(observations, CONTINUOUS))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kinds": "images", "keys": ("speed",)}, r"encoder\.keys names 'speed', which is not among the images of"),
        ({"keys": ("sonar",)}, r"encoder\.keys names 'sonar', but the environment has image, position, wrist, speed"),
    ],
)
def test_encoder_keys_that_do_not_exist_or_fit_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Dreamer(
            tiny(**{f"world_model__encoder__{key}": value for key, value in settings.items()}), EnvSpec(DICT, DISCRETE)
        )


# --- standardised vectors --------------------------------------------------------------------------------------------


def observations(count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    values = torch.randn((count, 3), generator=generator) * SIZES + OFFSETS
    return {"pole": values[:, :2], "cart": values[:, 2:]}


def test_vector_norm_statistics_are_those_of_all_batches_together() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [observations(20, generator) for _ in range(30)]
    norm = VectorNorm(TWO_VECTORS)
    for batch in batches:
        norm.update(batch)
    everything = torch.cat([torch.cat([batch["pole"], batch["cart"]], -1) for batch in batches])
    torch.testing.assert_close(norm.mean, everything.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.variance, everything.var(0, correction=0), rtol=1e-3, atol=1e-6)


def test_vector_norm_forward_changes_no_statistic() -> None:
    generator = torch.Generator().manual_seed(0)
    norm = VectorNorm(TWO_VECTORS)
    norm.update(observations(20, generator))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    batch = observations(20, generator)
    first, again = norm(batch), norm(batch)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert all(torch.equal(first[key], again[key]) for key in TWO_VECTORS)
    norm.update(batch)
    assert not any(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_vector_norm_results_have_mean_zero_and_deviation_one() -> None:
    generator = torch.Generator().manual_seed(0)
    norm = VectorNorm(TWO_VECTORS)
    for _ in range(100):
        norm.update(observations(200, generator))
    result = norm(observations(20_000, generator))
    assert list(result) == ["pole", "cart"]
    together = torch.cat(list(result.values()), -1)
    assert together.mean(0).abs().max() < 0.05
    assert (together.std(0) - 1).abs().max() < 0.05


def test_vector_norm_follows_late_changes_and_limits_extremes() -> None:
    norm = VectorNorm({"x": ArraySpec((1,), "float32")})
    for _ in range(10):
        norm.update({"x": torch.zeros(8, 1)})
    far = {"x": torch.full((8, 1), 7.0)}
    assert norm(far)["x"].eq(VectorNorm.LIMIT).all()
    for _ in range(10 * VectorNorm.WINDOW):
        norm.update(far)
    assert norm.mean.item() == pytest.approx(7, rel=1e-3)
    assert norm(far)["x"].abs().max() < 0.1


def test_vector_norm_before_the_first_batch_is_the_identity() -> None:
    batch = {"pole": torch.tensor([[0.5, -2.0]]), "cart": torch.tensor([[3.0]])}
    for key, value in VectorNorm(TWO_VECTORS)(batch).items():
        torch.testing.assert_close(value, batch[key])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_vector_norm_non_finite_entries_leave_their_statistics(bad: float) -> None:
    norm = VectorNorm({"speed": ArraySpec((2,), "float32")})
    norm.update({"speed": torch.tensor([[1.0, 5.0], [3.0, 7.0]])})
    norm.update({"speed": torch.tensor([[bad, 6.0], [1.0, 6.0]])})
    assert norm.mean.tolist() == [2.0, 6.0]
    assert norm.variance.tolist() == [1.0, pytest.approx(0.5)]  # the second entry is finite, and updated


def test_normalize_vectors_agent_standardises_its_batches() -> None:
    agent = Dreamer(tiny(world_model__normalize_vectors=True), EnvSpec(DICT, DISCRETE))
    arrays = random_steps(agent.spec, (10, 4))
    arrays["speed"] = arrays["speed"] * 100 + 50
    steps = tensors(arrays)
    agent.train_step(steps)
    batch = agent.world_model.preprocess(steps)
    for key in ("position", "speed"):
        assert batch[key].mean((0, 1)).abs().max() < 1e-5
        assert (batch[key].std((0, 1), correction=0) - 1).abs().max() < 1e-3
    np.testing.assert_array_equal(batch["image"], arrays["image"] / np.float32(255) - np.float32(0.5))


def test_normalize_vectors_off_keeps_no_statistics() -> None:
    agent = Dreamer(tiny(), EnvSpec(DICT, DISCRETE))
    assert not [name for name in agent.state_dict() if "vector_norm" in name]

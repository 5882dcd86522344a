"""Files 09 and 10: preprocessing, the world model's loss, all its parts and all its gradients."""

import numpy as np
import pytest
import torch

from reverie.dreamer.rssm import State
from reverie.dreamer.world_model import WorldModel, balanced_kl
from tests.parity.compare import (
    DEVICE,
    FORWARD,
    GRADIENT,
    Golden,
    LoadGolden,
    LoadWeights,
    close,
    close_state,
    group,
    image_gradient,
    named_gradients,
    stats_of,
    stoch_of,
    swap,
    tensor,
    time_major,
)
from tests.parity.configs import ACTIONS, config, env_spec
from tests.parity.metrics import MODEL as METRICS
from tests.parity.weights import close_gradients

FILES = {"09_world_model_atari": "atari", "09b_world_model_dmc": "dmc", "09c_world_model_crafter": "crafter"}
every_file = pytest.mark.parametrize("name", FILES)


def _model(load: LoadWeights, arrays: Golden, name: str) -> WorldModel:
    kind = FILES[name]
    model = WorldModel(config(kind).world_model, env_spec(ACTIONS[kind])).to(DEVICE)
    load(model, group(arrays, "param/"), "world_model")
    return model


def _steps(arrays: Golden) -> dict[str, torch.Tensor]:
    return {key: tensor(time_major(array)) for key, array in group(arrays, "data/").items()}


@every_file
def test_presets_weigh_the_losses_as_the_release(golden: LoadGolden, name: str) -> None:
    arrays, settings = golden(name), config(FILES[name]).world_model
    scales, kl = settings.loss_scales, settings.kl
    # The release's fourth scale, `proprio`, matches no loss; ours for vectors has its value.
    ours = {"kl": float(kl.scale), "reward": scales.reward, "discount": scales.discount, "proprio": scales.vector}
    assert ours == pytest.approx({key: float(value) for key, value in group(arrays, "loss_scale/").items()})
    ours = {
        "free": float(kl.free_nats),
        "forward": float(kl.forward),
        "balance": kl.balance,
        "free_avg": float(kl.free_average),
    }
    assert ours == pytest.approx({key: float(value) for key, value in group(arrays, "kl_config/").items()})


@every_file
def test_world_model_loss_and_metrics_are_those_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    arrays = golden(name)
    model = _model(load, arrays, name)
    result = model.loss(_steps(arrays), None, None)
    close(result.loss, arrays["model_loss"], FORWARD)
    expected = {METRICS[key]: value for key, value in group(arrays, "metric/").items()}
    expected["model/loss"] = arrays["model_loss"]
    assert result.metrics.keys() == expected.keys()
    for key, value in result.metrics.items():
        close(value, expected[key], FORWARD, key)


@every_file
def test_world_model_infer_and_log_likelihoods_have_the_values_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    arrays = golden(name)
    model = _model(load, arrays, name)
    batch, inferred, _ = model.infer(_steps(arrays))
    posterior = swap(inferred)
    prior = model.rssm.prior(posterior.deter)
    close(model.encoder(batch).swapaxes(0, 1), arrays["out/embed"], FORWARD, "embed")
    close(posterior.feat, arrays["out/feat"], FORWARD, "feat")
    close_state(posterior, arrays, "out/post/")
    close_state(posterior.map(lambda part: part[:, -1]), arrays, "last_state/")
    close_state(State(posterior.deter, model.rssm.latents.sample(prior, None), prior), arrays, "out/prior/")
    kl = model.config.kl
    _, value = balanced_kl(
        model.rssm.latents, posterior.stats, prior, balance=kl.balance, free_nats=float(kl.free_nats)
    )
    close(value, arrays["out/kl"], FORWARD, "kl")
    expected = group(arrays, "out/likes/")
    found = model.log_likelihoods(inferred.feat, batch)
    assert found.keys() == expected.keys()
    for key, log_likelihood in found.items():
        close(log_likelihood.swapaxes(0, 1), expected[key], FORWARD, key)


@every_file
def test_world_model_loss_has_the_gradients_of_the_release(golden: LoadGolden, load: LoadWeights, name: str) -> None:
    arrays = golden(name)
    model = _model(load, arrays, name)
    gradients = named_gradients(model.loss(_steps(arrays), None, None).loss, model)
    close_gradients(gradients, group(arrays, "grad/"), image_gradient, "world_model")
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    close(norm, arrays["grad_norm"], GRADIENT)


@every_file
def test_preprocess_batch_has_the_values_of_the_release(golden: LoadGolden, load: LoadWeights, name: str) -> None:
    arrays = golden(name)
    batch = _model(load, arrays, name).preprocess(_steps(arrays))
    for key in ("reward", "discount"):
        close(batch[key].swapaxes(0, 1), arrays[f"pre/{key}"], FORWARD, key)
    close(batch["image"][0, 0], arrays["pre/image_b0t0"], FORWARD, "image")


@pytest.mark.parametrize("transform", ["tanh", "sign", "identity"])
def test_preprocess_reward_transform_has_the_values_of_the_release(golden: LoadGolden, transform: str) -> None:
    arrays = golden("10_preprocess")
    settings = config("atari", world_model__reward_transform=transform, world_model__discount=0.999)
    model = WorldModel(settings.world_model, env_spec(ACTIONS["atari"])).to(DEVICE)
    batch = model.preprocess({key: tensor(array) for key, array in group(arrays, "in/").items()})
    # The file has only the rewards of the other two.
    expected = group(arrays, "tanh/") | group(arrays, f"{transform}/")
    assert batch.keys() == expected.keys()
    for key, value in batch.items():
        assert str(value.dtype).removeprefix("torch.") == str(expected[key].dtype), key
        close(value, expected[key], FORWARD, key)


@every_file
def test_golden_modes_have_no_ties(golden: LoadGolden, name: str) -> None:
    """A comparison of modes needs a margin: no two classes are nearly as likely as each other."""
    arrays = golden(name)
    logits = np.sort(np.concatenate([stats_of(arrays, f"out/{side}/") for side in ("post", "prior")]), -1)
    margin = (logits[..., -1] - logits[..., -2]).min()
    assert margin == pytest.approx(float(arrays["min_margin"]), rel=1e-3)
    assert margin > 1e-4
    assert np.allclose(stoch_of(arrays, "out/post/").sum(-1), stats_of(arrays, "out/post/").shape[-2])

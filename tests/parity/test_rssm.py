"""Files 03: filtering and imagining with categorical and Gaussian latents."""

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie.config import RSSMConfig
from reverie.dreamer.rssm import RSSM, State
from tests.parity.compare import (
    DEVICE,
    FORWARD,
    GRADIENT,
    Array,
    Golden,
    LoadGolden,
    LoadWeights,
    categorical_noise,
    close,
    close_state,
    group,
    leaf_gradients,
    named_gradients,
    stats_of,
    stoch_of,
    stored_state,
    swap,
    tensor,
    time_major,
)
from tests.parity.weights import close_gradients

ROOT = "world_model.rssm"
SIZES = {"stoch": 4, "classes": 4, "deter": 16, "hidden": 16}
CONFIGS = {
    "03_rssm_discrete": RSSMConfig(**SIZES),
    "03b_rssm_discrete_layernorm": RSSMConfig(**SIZES, layer_norm=True),
    "03c_rssm_gaussian": RSSMConfig(**SIZES, latents="gaussian", std_activation="sigmoid2"),
    "03d_rssm_gaussian_softplus": RSSMConfig(**SIZES, latents="gaussian", std_activation="softplus"),
}
every_file = pytest.mark.parametrize("name", CONFIGS)


def _rssm(load: LoadWeights, arrays: Golden, name: str) -> RSSM:
    rssm = RSSM(CONFIGS[name], arrays["embed"].shape[-1], arrays["action"].shape[-1]).to(DEVICE)
    load(rssm, group(arrays, "param/"), ROOT)
    return rssm


def _inputs(arrays: Golden, grad: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    embed, action = (tensor(time_major(arrays[key]), grad) for key in ("embed", "action"))
    return embed, action, tensor(time_major(arrays["is_first"]))


def _close_posterior_and_prior(rssm: RSSM, posterior: State, prior: Tensor, arrays: Golden, prefix: str) -> None:
    """Compare results of `observe`; posterior and prior share the deterministic state."""
    posterior, prior = swap(posterior), prior.swapaxes(0, 1)
    close_state(posterior, arrays, f"{prefix}/post/")
    close(prior, stats_of(arrays, f"{prefix}/prior/"), FORWARD, "prior")
    close(posterior.deter, arrays[f"{prefix}/prior/deter"], FORWARD, "deter of the prior")


@every_file
def test_rssm_initial_state_is_that_of_the_release(golden: LoadGolden, load: LoadWeights, name: str) -> None:
    arrays = golden(name)
    rssm = _rssm(load, arrays, name)
    close_state(rssm.initial((arrays["initial/deter"].shape[0],)), arrays, "initial/")


@every_file
def test_rssm_observe_has_the_states_of_the_release(golden: LoadGolden, load: LoadWeights, name: str) -> None:
    arrays = golden(name)
    rssm = _rssm(load, arrays, name)
    posterior = rssm.observe(*_inputs(arrays))
    prior = rssm.prior(posterior.deter)
    _close_posterior_and_prior(rssm, posterior, prior, arrays, "observe")
    close(rssm.latents.sample(prior, None).swapaxes(0, 1), stoch_of(arrays, "observe/prior/"), FORWARD)
    close(posterior.feat.swapaxes(0, 1), arrays["observe/feat"], FORWARD)
    close(rssm.latents.entropy(posterior.stats).swapaxes(0, 1), arrays["observe/post_entropy"], FORWARD)


@every_file
def test_rssm_observe_from_a_given_state_has_the_states_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    arrays = golden(name)
    rssm = _rssm(load, arrays, name)
    posterior = rssm.observe(*_inputs(arrays), stored_state(arrays, "state0/"))
    prior = rssm.prior(posterior.deter)
    _close_posterior_and_prior(rssm, posterior, prior, arrays, "observe_state0")
    close(rssm.latents.sample(prior, None).swapaxes(0, 1), stoch_of(arrays, "observe_state0/prior/"), FORWARD)


@every_file
def test_rssm_observe_has_the_gradients_of_the_release(golden: LoadGolden, load: LoadWeights, name: str) -> None:
    arrays = golden(name)
    rssm = _rssm(load, arrays, name)
    embed, action, is_first = _inputs(arrays, grad=True)
    posterior = rssm.observe(embed, action, is_first)
    prior = rssm.prior(posterior.deter)
    # Cotangents of Gaussians are given for the means only.
    kind = "logit" if "observe/cotangent_post_logit" in arrays else "mean"
    posterior_stats, prior_stats = (
        stats if kind == "logit" else stats.select(-2, 0) for stats in (posterior.stats, prior)
    )
    pairs = (
        (posterior_stats, f"post_{kind}"),
        (prior_stats, f"prior_{kind}"),
        (posterior.feat, "feat"),
    )
    terms = [(value * tensor(time_major(arrays[f"observe/cotangent_{key}"]))).sum() for value, key in pairs]
    loss = torch.stack(terms).sum()
    for gradient, key in zip(leaf_gradients(loss, [embed, action]), ("embed", "action"), strict=True):
        close(gradient.swapaxes(0, 1), arrays[f"observe/grad_{key}"], GRADIENT, key)
    close_gradients(named_gradients(loss, rssm), group(arrays, "observe/grad/"), GRADIENT, ROOT)


@every_file
@pytest.mark.parametrize("case", ["imagine", "imagine_none"])
def test_rssm_imagine_has_the_states_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str, case: str
) -> None:
    arrays = golden(name)
    rssm = _rssm(load, arrays, name)
    action = tensor(time_major(arrays["imagine/action"]))
    if case == "imagine":
        start = stored_state(arrays, "observe/post/").map(lambda part: part[:, -1])
    else:
        start = rssm.initial((action.shape[1],))
    close_state(swap(rssm.imagine(action, start)), arrays, f"{case}/")


def _noise(arrays: Golden, prefix: str) -> Tensor:
    """Noise [T, B, S] with which our samplers draw what the release's samplers drew."""
    stoch, stats = arrays[f"{prefix}stoch"], stats_of(arrays, prefix)
    if f"{prefix}logit" in arrays:
        return categorical_noise(time_major(stats), time_major(stoch))
    mean, std = stats[..., 0, :], stats[..., 1, :]
    return tensor(time_major((stoch - mean) / std))


@every_file
def test_rssm_observe_with_real_samples_has_the_states_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    arrays = golden(name)
    rssm = _rssm(load, arrays, name)
    posterior = rssm.observe(*_inputs(arrays), noise=_noise(arrays, "sampled/post/"))
    prior = rssm.prior(posterior.deter)
    _close_posterior_and_prior(rssm, posterior, prior, arrays, "sampled")
    prior_sample = rssm.latents.sample(prior, _noise(arrays, "sampled/prior/"))
    close(prior_sample.swapaxes(0, 1), stoch_of(arrays, "sampled/prior/"), FORWARD)


@every_file
def test_rssm_observe_step_from_each_stored_state_has_the_next_one(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    """Teacher forcing: every step starts where the release's did, so that errors cannot build up or cancel."""
    arrays = golden(name)
    rssm = _rssm(load, arrays, name)
    embed, action, is_first = _inputs(arrays)
    stored = swap(stored_state(arrays, "sampled/post/"))
    before = rssm.initial((embed.shape[1],)).map(lambda part: part[None])
    previous = State(*(torch.cat([first, part[:-1]]) for first, part in zip(before, stored, strict=True)))
    # A state depends on nothing but the one before, so all steps form one batch.
    flat = [part.flatten(0, 1) for part in (action, embed, is_first)]
    step = rssm.observe_step(previous.map(lambda part: part.flatten(0, 1)), *flat, None)

    def expected(array: Array) -> Array:
        return np.concatenate(list(time_major(array)))

    close(step.deter, expected(arrays["sampled/post/deter"]), FORWARD, "deter")
    close(step.stats, expected(stats_of(arrays, "sampled/post/")), FORWARD, "posterior")
    close(rssm.prior(step.deter), expected(stats_of(arrays, "sampled/prior/")), FORWARD, "prior")

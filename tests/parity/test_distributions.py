"""File 05: distributions, their gradients, and the output layers that parametrise them.

Not compared, because nothing here has them: `layer_normal` (a normal whose raw, possibly negative, output is taken for
its standard deviation; no setting of the release uses it), the mean of the truncated normal and of the tanh-normal,
and the shape of several samples at once.
"""

import math

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor

from reverie.config import ActorConfig, MLPConfig
from reverie.dreamer.distributions import (
    OneHot,
    TanhNormal,
    TruncatedNormal,
    bernoulli_log_prob,
    unit_normal_log_prob,
)
from reverie.dreamer.heads import Actor
from reverie.dreamer.latents import Categorical
from reverie.dreamer.layers import MLP
from reverie.dreamer.recurrent_policy import explore
from reverie.specs import ActionSpec
from tests.parity.compare import (
    DEVICE,
    FORWARD,
    GRADIENT,
    Golden,
    LoadGolden,
    LoadWeights,
    categorical_noise,
    close,
    group,
    leaf_gradients,
    tensor,
)


def _onehot(arrays: Golden) -> tuple[OneHot, Tensor]:
    logits = tensor(arrays["logits"], grad=True)
    return OneHot(logits, (logits.shape[-1],)), logits


def _even_draws(count: int) -> Tensor:
    """Evenly spaced noise: frequencies of draws are then probabilities, up to 1 / count."""
    return (torch.arange(count, device=DEVICE) + 0.5) / count


def test_onehot_has_the_values_and_gradients_of_the_release(golden: LoadGolden) -> None:
    arrays = group(golden("05_dists"), "onehot/")
    dist, logits = _onehot(arrays)
    rows = tensor(arrays["const"][:, 0])
    log_prob = dist.log_prob(tensor(arrays["x"]))
    close(dist.mode(), arrays["mode"], FORWARD)
    close(log_prob, arrays["log_prob"], FORWARD)
    close(leaf_gradients((log_prob * rows).sum(), [logits])[0], arrays["grad_log_prob_logits"], GRADIENT)
    close(dist.entropy(), arrays["entropy"], FORWARD)
    close(leaf_gradients((dist.entropy() * rows).sum(), [logits])[0], arrays["grad_entropy_logits"], GRADIENT)


def test_onehot_log_prob_has_no_gradient_for_the_action(golden: LoadGolden) -> None:
    arrays = group(golden("05_dists"), "onehot/")
    dist, _ = _onehot(arrays)
    action = tensor(arrays["x"], grad=True)
    gradient = torch.autograd.grad(dist.log_prob(action).sum(), action, allow_unused=True)[0]
    assert (gradient is None) == bool(arrays["grad_log_prob_x_is_none"])


def test_onehot_sample_has_the_straight_through_gradient_of_the_release(golden: LoadGolden) -> None:
    arrays = group(golden("05_dists"), "onehot/")
    dist, logits = _onehot(arrays)
    noise = categorical_noise(arrays["logits"], arrays["sample"])[:, None]
    sample = dist.sample(noise)
    close(sample, arrays["sample"], FORWARD)
    for draw in (sample, dist.sample(None)):  # the gradient does not depend on what was drawn
        gradient = leaf_gradients((draw * tensor(arrays["const"])).sum(), [logits])[0]
        close(gradient, arrays["grad_sample_logits"], GRADIENT)


def test_onehot_even_noise_draws_with_its_probabilities(golden: LoadGolden) -> None:
    arrays = group(golden("05_dists"), "onehot/")
    count = 10_000
    logits = tensor(arrays["logits"]).expand(count, -1, -1)
    noise = _even_draws(count)[:, None, None].expand(-1, logits.shape[1], 1)
    frequencies = OneHot(logits, (logits.shape[-1],)).sample(noise).mean(0)
    close(frequencies, arrays["probs"], {"rtol": 0, "atol": 2 / count})


def test_categorical_entropy_sums_the_variables_of_the_release(golden: LoadGolden) -> None:
    arrays = group(golden("05_dists"), "onehot_independent/")
    variables, classes = arrays["logits"].shape[-2:]
    close(Categorical(variables, classes).entropy(tensor(arrays["logits"])), arrays["entropy"], FORWARD)


def test_explore_discrete_actions_has_the_frequencies_of_the_release(golden: LoadGolden) -> None:
    arrays = group(golden("05_dists"), "action_noise/")
    count, classes = 20_000, arrays["action"].shape[-1]
    actions = tensor(arrays["action"]).repeat(count, 1)
    drawn = explore(actions, ActionSpec("discrete", (classes,)), 0.3, torch.Generator(DEVICE).manual_seed(0))
    frequencies = drawn.unflatten(0, (count, -1)).mean(0)
    # Six standard errors of a frequency.
    deviation = np.sqrt(arrays["probs"] * (1 - arrays["probs"]) / count).max()
    close(frequencies, arrays["probs"], {"rtol": 0, "atol": 6 * deviation})


def _trunc_normal(arrays: Golden) -> tuple[TruncatedNormal, list[Tensor]]:
    parameters = [tensor(arrays[key], grad=True) for key in ("loc", "scale")]
    return TruncatedNormal(*parameters), parameters


def test_truncated_normal_has_the_values_and_gradients_of_the_release(golden: LoadGolden) -> None:
    arrays = group(golden("05_dists"), "trunc_normal/")
    dist, parameters = _trunc_normal(arrays)
    rows = tensor(arrays["const"][:, 0])
    x = tensor(arrays["x"], grad=True)
    close(dist.mode(), arrays["mode"], FORWARD)
    log_prob, entropy = dist.log_prob(x), dist.entropy()
    close(log_prob, arrays["log_prob"], FORWARD)
    close(entropy, arrays["entropy"], FORWARD)
    gradients = leaf_gradients((log_prob * rows).sum(), [*parameters, x])
    for gradient, name in zip(gradients, ("loc", "scale", "x"), strict=True):
        close(gradient, arrays[f"grad_log_prob_{name}"], GRADIENT, name)
    gradients = leaf_gradients((entropy * rows).sum(), parameters)
    for gradient, name in zip(gradients, ("loc", "scale"), strict=True):
        close(gradient, arrays[f"grad_entropy_{name}"], GRADIENT, name)


def test_truncated_normal_sample_has_tensorflows_gradient(golden: LoadGolden) -> None:
    """As if the bounds did not move; the exact gradient, which the file has for comparison, is another."""
    arrays = group(golden("05_dists"), "trunc_normal/")
    dist, parameters = _trunc_normal(arrays)
    loc, scale, drawn = (arrays[key].astype(np.float64) for key in ("loc", "scale", "sample"))
    low, high, here = (special.ndtr((edge - loc) / scale) for edge in (-1.0, 1.0, drawn))
    sample = dist.sample(tensor(((here - low) / (high - low)).astype(np.float32)))
    close(sample, arrays["sample"], FORWARD)
    gradients = leaf_gradients((sample * tensor(arrays["const"])).sum(), parameters)
    for gradient, name in zip(gradients, ("loc", "scale"), strict=True):
        close(gradient, arrays[f"grad_sample_{name}"], GRADIENT, name)


def test_truncated_normal_even_noise_draws_the_quantiles(golden: LoadGolden) -> None:
    """Samples at evenly spaced noise against SciPy's quantiles."""
    arrays = group(golden("05_dists"), "trunc_normal/")
    loc, scale = (arrays[key].astype(np.float64) for key in ("loc", "scale"))
    noise = _even_draws(99)[:, None, None].expand(-1, *loc.shape)
    expanded = [tensor(arrays[key]).expand(noise.shape) for key in ("loc", "scale")]
    sample = TruncatedNormal(*expanded).sample(noise)
    expected = stats.truncnorm.ppf(noise.cpu().double(), (-1 - loc) / scale, (1 - loc) / scale, loc, scale)
    close(sample, expected, {"rtol": 0, "atol": 2e-5})


def _actor(load: LoadWeights, arrays: Golden, action: ActionSpec, **settings: object) -> Actor:
    """The release's output layer alone is an actor without hidden layers."""
    actor = Actor(arrays["inputs"].shape[-1], action, ActorConfig(layers=0, **settings)).to(DEVICE)
    load(actor, {f"actor/out/{name}": array for name, array in group(arrays, "param/").items()}, "actor_critic.actor")
    return actor


def _linear(load: LoadWeights, arrays: Golden) -> Tensor:
    """Output of the release's output layer, as that of an MLP without hidden layers."""
    mlp = MLP(arrays["inputs"].shape[-1], MLPConfig(layers=0), arrays["param/out/bias"].size).to(DEVICE)
    root = "world_model.reward_head"
    load(mlp, {f"reward/out/{name}": array for name, array in group(arrays, "param/").items()}, root)
    return mlp(tensor(arrays["inputs"]))


def test_actor_truncated_normal_layer_has_the_values_of_the_release(golden: LoadGolden, load: LoadWeights) -> None:
    arrays = group(golden("05_dists"), "layer_trunc_normal/")
    dist = _actor(load, arrays, ActionSpec("continuous", (3,)), min_std=0.1)(tensor(arrays["inputs"]))
    close(dist.loc, arrays["loc"], FORWARD)
    close(dist.scale, arrays["scale"], FORWARD)
    close(dist.mode(), arrays["mode"], FORWARD)
    close(dist.entropy(), arrays["entropy"], FORWARD)
    close(dist.log_prob(tensor(arrays["x"])), arrays["log_prob"], FORWARD)


def _tanh_normal(load: LoadWeights, arrays: Golden) -> TanhNormal:
    actor = _actor(load, arrays, ActionSpec("continuous", (3,)), min_std=0.1, distribution="tanh_normal")
    return actor(tensor(arrays["inputs"]))


def test_actor_tanh_normal_layer_has_the_values_of_the_release(golden: LoadGolden, load: LoadWeights) -> None:
    arrays = group(golden("05_dists"), "layer_tanh_normal/")
    dist = _tanh_normal(load, arrays)
    close(dist.loc, arrays["loc"], FORWARD)
    close(dist.scale, arrays["scale"], FORWARD)
    close(dist.log_prob(tensor(arrays["x"])), arrays["log_prob"], FORWARD)


def test_tanh_normal_entropy_is_what_the_release_estimates(golden: LoadGolden, load: LoadWeights) -> None:
    """The release averages over 100 samples; ours is a quadrature. The samples' log-probabilities agree exactly."""
    arrays = group(golden("05_dists"), "layer_tanh_normal/")
    dist = _tanh_normal(load, arrays)
    first = TanhNormal(dist.loc[:1, :1], dist.scale[:1, :1])
    samples = arrays["samples100"]
    log_probs = first.log_prob(tensor(samples)).detach().cpu().numpy()
    # The release keeps the value before tanh; from a rounded sample it is known only up to eps / (1 - tanh^2).
    standard = (np.arctanh(samples.astype(np.float64)) - arrays["loc"][:1, :1]) / arrays["scale"][:1, :1]
    slope = np.abs(standard) / arrays["scale"][:1, :1] + 2
    rounding = (np.finfo(np.float32).eps * slope / (1 - samples.astype(np.float64) ** 2)).sum(-1).mean()
    close(-log_probs.mean(0), arrays["entropy"], {"rtol": 1e-5, "atol": 1e-5 + rounding})
    error = log_probs.std(0) / math.sqrt(len(samples))
    assert (np.abs(first.entropy().detach().cpu().numpy() - arrays["entropy"]) < 6 * error).all()


def test_mlp_binary_layer_has_the_values_of_the_release(golden: LoadGolden, load: LoadWeights) -> None:
    arrays = group(golden("05_dists"), "layer_binary/")
    logits = _linear(load, arrays).squeeze(-1)
    close(logits, arrays["logits"], FORWARD)
    close(logits.sigmoid(), arrays["mean"], FORWARD)
    close((logits > 0).float(), arrays["mode"].astype(np.float32), FORWARD)
    close(bernoulli_log_prob(logits, tensor(arrays["x"])), arrays["log_prob"], FORWARD)


def test_mlp_scalar_layer_has_the_values_of_the_release(golden: LoadGolden, load: LoadWeights) -> None:
    arrays = group(golden("05_dists"), "layer_mse/")
    mean = _linear(load, arrays).squeeze(-1)
    close(mean, arrays["mode"], FORWARD)
    close(unit_normal_log_prob(mean, tensor(arrays["x"]), 0), arrays["log_prob"], FORWARD)


def test_mlp_vector_layer_has_the_values_of_the_release(golden: LoadGolden, load: LoadWeights) -> None:
    arrays = group(golden("05_dists"), "layer_mse_vec/")
    mean = _linear(load, arrays)
    close(mean, arrays["mode"], FORWARD)
    close(unit_normal_log_prob(mean, tensor(arrays["x"]), 1), arrays["log_prob"], FORWARD)


def test_actor_onehot_layer_has_the_values_of_the_release(golden: LoadGolden, load: LoadWeights) -> None:
    arrays = group(golden("05_dists"), "layer_onehot/")
    dist = _actor(load, arrays, ActionSpec("discrete", (6,)))(tensor(arrays["inputs"]))
    close(dist.logits, arrays["logits"], FORWARD)
    close(dist.entropy(), arrays["entropy"], FORWARD)

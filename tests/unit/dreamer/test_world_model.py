"""The world model's loss: KL balancing and the split objective, gradients of all parts, inference."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie.dreamer import Dreamer
from reverie.dreamer.latents import Binary, Categorical, Gaussian, Latents
from reverie.dreamer.rssm import stack_states
from reverie.dreamer.world_model import balanced_kl, split_kl, transform_reward
from reverie.specs import EnvSpec
from tests.helpers.agents import CONTINUOUS, DICT, DISCRETE, random_steps, tensors, tiny

ETA_T, ETA_Q = 0.08, 0.02
Array = np.ndarray[Any, Any]


# --- KL --------------------------------------------------------------------------------------------------------------


def categorical(q: Array, p: Array) -> tuple[Array, Array]:
    """Return cross entropy and entropy from logits [N, S, K]."""
    q, p = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (q, p))
    return -(q * np.log(p)).sum((-2, -1)), -(q * np.log(q)).sum((-2, -1))


def binary(q: Array, p: Array) -> tuple[Array, Array]:
    """Return cross entropy and entropy from logits [N, 1, S]."""
    q, p = (1 / (1 + np.exp(-x[:, 0])) for x in (q, p))
    cross = -(q * np.log(p) + (1 - q) * np.log(1 - p)).sum(-1)
    return cross, -(q * np.log(q) + (1 - q) * np.log(1 - q)).sum(-1)


def gaussian(q: Array, p: Array) -> tuple[Array, Array]:
    """Return cross entropy and entropy from means and deviations [N, 2, S]."""
    (mean, std), (other, scale) = (x.swapaxes(0, 1) for x in (q, p))
    cross = 0.5 * np.log(2 * math.pi * scale**2) + (std**2 + (mean - other) ** 2) / (2 * scale**2)
    return cross.sum(-1), 0.5 * np.log(2 * math.pi * math.e * std**2).sum(-1)


def stats(shape: tuple[int, ...], seed: int, positive: bool = False) -> Tensor:
    values = torch.randn((5, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if positive:
        values[:, 1] = values[:, 1].exp()
    return values.requires_grad_()


KINDS = {
    "categorical": (Categorical(3, 4), categorical),
    "binary": (Binary(6), binary),
    "gaussian": (Gaussian(3, "sigmoid2", 0.1), gaussian),
}


def posterior_and_prior(name: str) -> tuple[Tensor, Tensor]:
    q, p = (stats(KINDS[name][0].stats_shape, seed, name == "gaussian") for seed in (0, 1))
    return q, p


def split(kind: Latents, q: Tensor, p: Tensor, eta_t: float = ETA_T, eta_q: float = ETA_Q) -> tuple[Tensor, Tensor]:
    return split_kl(kind, q, p, prior_scale=eta_t, posterior_entropy_scale=eta_q)


@pytest.mark.parametrize("name", KINDS)
def test_split_kl_is_the_formula_of_the_article(name: str) -> None:
    kind, reference = KINDS[name]
    q, p = posterior_and_prior(name)
    loss, value = split(kind, q, p)
    cross, entropy = reference(q.detach().numpy(), p.detach().numpy())
    assert loss.item() == pytest.approx((ETA_T * cross - ETA_Q * entropy).mean())
    np.testing.assert_allclose(value.detach().numpy(), cross - entropy)
    assert torch.autograd.gradcheck(lambda q, p: split(kind, q, p)[0], (q, p))


@pytest.mark.parametrize("name", KINDS)
def test_split_kl_moves_the_prior_as_balancing_does_and_the_posterior_more(name: str) -> None:
    """0.08 = 0.1 * 0.8 and 0.02 = 0.1 * 0.2, but the cross entropy moves the posterior with 0.08 instead of 0.02."""
    kind, _ = KINDS[name]
    q, p = posterior_and_prior(name)
    q_split, p_split = torch.autograd.grad(split(kind, q, p)[0], (q, p))
    balanced = 0.1 * balanced_kl(kind, q, p, balance=0.8, free_nats=0.0)[0]
    q_balanced, p_balanced = torch.autograd.grad(balanced, (q, p))
    torch.testing.assert_close(p_split, p_balanced)
    cross = (kind.kl(q, p.detach()) + kind.entropy(q)).mean()
    (extra,) = torch.autograd.grad(0.06 * cross, q)
    torch.testing.assert_close(q_split, q_balanced + extra)


def test_split_kl_with_equal_scales_is_the_plain_kl() -> None:
    kind, _ = KINDS["categorical"]
    q, p = posterior_and_prior("categorical")
    assert split(kind, q, p, 0.3, 0.3)[0].item() == pytest.approx(0.3 * kind.kl(q, p).mean().item())


def test_split_kl_minimised_alone_ends_in_certainty() -> None:
    """Prior and posterior agree, and on a single state (docs/variants.md)."""
    kind, _ = KINDS["categorical"]
    q, p = (part.detach().clone().requires_grad_() for part in posterior_and_prior("categorical"))
    optimizer = torch.optim.Adam([q, p], 0.05)
    for _ in range(600):
        optimizer.zero_grad()
        split(kind, q, p)[0].backward()
        optimizer.step()
    assert kind.kl(q, p).max() < 0.05
    assert kind.entropy(q).max() < 0.3


@pytest.mark.parametrize(("free_nats", "mean", "steps"), [(0.0, True, True), (1.2, True, True), (9.0, False, False)])
@pytest.mark.parametrize("balance", [0.5, 0.501, 0.8])
def test_balanced_kl_free_average_clips_the_mean_at_every_balance(
    balance: float, free_nats: float, mean: bool, steps: bool
) -> None:
    """`free_average` compares the mean with the free nats, its absence each step; NumPy says which side is clipped."""
    kind, _ = KINDS["categorical"]
    q, p = posterior_and_prior("categorical")
    values = kind.kl(q, p).detach().numpy()
    assert (values.mean() > free_nats, (values > free_nats).any()) == (mean, steps)
    assert free_nats != 1.2 or (values < free_nats).any()  # where the two rules differ
    for average, expected in ((True, max(values.mean(), free_nats)), (False, np.maximum(values, free_nats).mean())):
        loss, _ = balanced_kl(kind, q, p, balance=balance, free_nats=free_nats, free_average=average)
        assert loss.item() == pytest.approx(expected)
        moved = torch.autograd.grad(loss, (q, p))
        open_steps = np.full(5, mean) if average else values > free_nats
        for gradient in moved:
            assert (gradient.abs().sum((-2, -1)) > 0).tolist() == open_steps.tolist()


def test_balanced_kl_at_half_has_twice_the_gradient_unless_at_equal_scale() -> None:
    kind, _ = KINDS["categorical"]
    q, p = posterior_and_prior("categorical")
    plain = torch.autograd.grad(kind.kl(q, p).mean(), (q, p))

    def ratios(balance: float, **more: bool) -> list[float]:
        loss, _ = balanced_kl(kind, q, p, balance=balance, free_nats=0.0, **more)
        moved = torch.autograd.grad(loss, (q, p))
        return [(mine.norm() / whole.norm()).item() for mine, whole in zip(moved, plain, strict=True)]

    assert ratios(0.8) == pytest.approx([0.2, 0.8])
    assert ratios(0.5) == pytest.approx([1, 1])
    assert ratios(0.501) == pytest.approx([0.499, 0.501])
    assert ratios(0.5, equal_scale=True) == pytest.approx([0.5, 0.5])
    assert ratios(0.8, equal_scale=True) == pytest.approx([0.2, 0.8])


# --- preprocessing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "function"), [("tanh", np.tanh), ("sign", np.sign), ("identity", lambda x: x)])
def test_transform_reward_is_the_function_of_its_name(name: str, function: Any) -> None:
    reward = np.linspace(-3, 3, 7, dtype=np.float32)
    np.testing.assert_allclose(transform_reward(torch.from_numpy(reward), name).numpy(), function(reward), rtol=1e-6)


def test_preprocess_images_are_in_the_unit_interval_around_zero() -> None:
    model = Dreamer(tiny(), EnvSpec(DICT, DISCRETE)).world_model
    steps = {"image": torch.tensor([0, 255], dtype=torch.uint8), "is_terminal": torch.tensor([False, True])}
    batch = model.preprocess(steps)
    assert batch["image"].tolist() == [-0.5, 0.5]
    assert batch["discount"].tolist() == pytest.approx([model.config.discount, 0.0])
    assert "discount" not in model.preprocess({"image": steps["image"]})


# --- inference -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latents", ["categorical", "gaussian", "binary"])
def test_infer_sequence_is_the_same_as_step_by_step(latents: str) -> None:
    """With an episode that starts on the way, from a carried state, with noise."""
    config = tiny(world_model__rssm__latents=latents, world_model__normalize_vectors=True)
    model = Dreamer(config, EnvSpec(DICT, CONTINUOUS), seed=1).world_model
    steps = tensors(random_steps(EnvSpec(DICT, CONTINUOUS), (5, 3)))
    steps["is_first"][0] = torch.tensor([True, False, False])
    steps["is_first"][3, 1] = True
    model.preprocess.vector_norm.update(steps)
    generator = torch.Generator().manual_seed(0)
    start = model.rssm.initial((3,)).map(lambda part: torch.randn(part.shape, generator=generator))
    noise = model.rssm.latents.draw_noise((5, 3), generator)
    batch, whole, _ = model.infer(steps, start, noise)

    state, states = start, []
    for t in range(5):
        step = {key: value[t : t + 1] for key, value in steps.items()}
        part, posterior, _ = model.infer(step, state, noise[t : t + 1])
        torch.testing.assert_close(part["position"][0], batch["position"][t])
        state = posterior.map(lambda value: value[0])
        states.append(state)
    for found, expected in zip(stack_states(states), whole, strict=True):
        torch.testing.assert_close(found, expected)
    embed = model.encoder(batch)
    by_hand = model.rssm.observe_step(start, batch["action"][0], embed[0], steps["is_first"][0], noise[0])
    torch.testing.assert_close(by_hand.feat, whole.feat[0])


def test_infer_without_state_starts_from_zeros() -> None:
    model = Dreamer(tiny(), EnvSpec(DICT, DISCRETE)).world_model
    steps = tensors(random_steps(EnvSpec(DICT, DISCRETE), (2, 3)))
    steps["is_first"][:] = False
    from_none, from_zeros = (model.infer(steps, state).posterior for state in (None, model.rssm.initial((3,))))
    assert torch.equal(from_none.feat, from_zeros.feat)


# --- loss ------------------------------------------------------------------------------------------------------------


def test_loss_is_the_weighted_sum_of_its_metrics() -> None:
    scales = {"image": 0.5, "vector": 2.0, "reward": 3.0, "discount": 5.0}
    config = tiny(world_model__kl__scale=0.7, **{f"world_model__loss_scales__{key}": v for key, v in scales.items()})
    agent = Dreamer(config, EnvSpec(DICT, DISCRETE))
    found = agent.world_model.loss(tensors(random_steps(agent.spec, (3, 2))), None, None)
    kinds = {"image": "image", "wrist": "image", "position": "vector", "speed": "vector"}
    kinds |= {"reward": "reward", "discount": "discount"}
    expected = 0.7 * found.metrics["model/kl_loss"]
    for key, kind in kinds.items():
        expected = expected + scales[kind] * found.metrics[f"model/{key}_loss"]
    torch.testing.assert_close(found.loss.detach(), expected)
    assert torch.equal(found.metrics["model/loss"], found.loss)


def test_loss_with_scheduled_values_reads_them() -> None:
    config = tiny(world_model__kl__scale="linear(1,0,80)", world_model__kl__free_nats=0.0)
    agent = Dreamer(config, EnvSpec(DICT, DISCRETE))
    model, steps = agent.world_model, tensors(random_steps(agent.spec, (3, 2)))
    values = model.scheduled_values(40)
    assert values == {"kl_scale": 0.5, "free_nats": 0.0}
    start, middle = model.loss(steps, None, None), model.loss(steps, None, None, values)
    torch.testing.assert_close(start.loss - middle.loss, 0.5 * start.metrics["model/kl_loss"], rtol=1e-3, atol=1e-3)


def test_loss_gradient_equals_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of every parameter, along itself plus a random direction, against differences of the loss.

    The loss is made differentiable: Gaussian latents with fixed noise in place of one-hot samples, and balance 0.5,
    where no gradient is stopped. All is computed in double precision, the model's islands of float32 included.
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    config = tiny(
        world_model__rssm__latents="gaussian",
        world_model__rssm__layer_norm=True,
        world_model__kl__balance=0.5,
        world_model__loss_scales__image=1 / 64,
        world_model__loss_scales__discount=5.0,
    )
    agent = Dreamer(config, EnvSpec(DICT, DISCRETE), seed=3)
    model = agent.world_model.double()
    arrays = random_steps(agent.spec, (2, 2))
    arrays["is_first"][1, 0] = True
    steps = tensors(arrays)
    state = model.rssm.initial((2,)).map(torch.Tensor.double)
    noise = model.rssm.latents.draw_noise((2, 2), torch.Generator().manual_seed(0)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # away from zero biases: ELU bends at zero
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    gradients = torch.autograd.grad(model.loss(steps, state, noise).loss, list(model.parameters()))

    @torch.no_grad()
    def loss_at(parameter: Tensor, offset: Tensor) -> float:
        original = parameter.clone()
        parameter.add_(offset)
        value = model.loss(steps, state, noise).loss.item()
        parameter.copy_(original)
        return value

    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        random = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction = gradient / gradient.norm() + random / random.norm()
        step = 1e-5 * direction
        difference = loss_at(parameter, step) - loss_at(parameter, -step)
        assert difference == pytest.approx(2 * (gradient * step).sum().item(), rel=1e-5, abs=1e-12), name


HEADS = ("image", "vector", "reward", "discount")
PARTS: dict[str, tuple[str, ...]] = {
    "image": ("decoder.cnn.",),
    "vector": ("decoder.mlp.", "decoder.heads."),
    "reward": ("reward_head.",),
    "discount": ("discount_head.",),
}
REPRESENTATION = ("encoder.", "rssm.cell.", "rssm.input_layer.", "rssm.posterior_")


@pytest.mark.parametrize(("head", "through"), list(product(HEADS, (True, False))))
def test_head_gradients_off_stop_before_the_representation(head: str, through: bool) -> None:
    """A head's loss alone trains the head, and the representation only where `head_gradients` is on."""
    settings = {f"world_model__loss_scales__{other}": float(other == head) for other in HEADS}
    settings |= {f"world_model__head_gradients__{other}": through if other == head else not through for other in HEADS}
    agent = Dreamer(tiny(**settings, world_model__kl__scale=0.0), EnvSpec(DICT, DISCRETE))
    model = agent.world_model
    loss = model.loss(tensors(random_steps(agent.spec, (3, 2))), None, None).loss
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    trained = {
        name
        for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True)
        if gradient is not None and gradient.any()
    }
    prefixes = PARTS[head] + (REPRESENTATION if through else ())
    allowed = {name for name, _ in model.named_parameters() if name.startswith(prefixes)}
    # A bias behind dead units may have no gradient in so small a batch, but whole layers may not.
    assert trained <= allowed
    assert not {name for name in allowed - trained if name.endswith("weight")}

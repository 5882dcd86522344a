"""The agent as a whole: sizes, gradients against independent answers, all kinds of spaces, reproducibility."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reverie.agent import Dreamer, resolve_device
from reverie.behavior import lambda_return
from reverie.errors import ConfigError
from reverie.presets import preset
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from tests.helpers.agents import (
    ATARI_IMAGE,
    CONTINUOUS,
    DICT,
    DISCRETE,
    MULTI_DISCRETE,
    TINY,
    random_steps,
    tensors,
    tiny,
)
from tests.helpers.returns import brute_force_return

# --- what is observed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "seen"), [("dmc-vision", {"image", "wrist"}), ("dmc-proprio", {"position", "speed"})])
def test_dmc_presets_observe_the_kind_of_the_release_whatever_its_keys(name: str, seen: set[str]) -> None:
    """The other kind may be anything, before and after an update."""
    small = {
        **{f"{part}.units": 8 for part in ("behavior.actor", "behavior.critic", "world_model.reward_head")},
        **{f"world_model.{part}.{size}": 8 for part in ("encoder.mlp", "decoder.mlp") for size in ("units",)},
        **{f"world_model.rssm.{size}": 8 for size in ("deter", "hidden", "stoch", "classes")},
    }
    agent = Dreamer(preset(name).override(**{**TINY, **small}), EnvSpec(DICT, CONTINUOUS))
    steps = random_steps(agent.spec, (3, 2))
    metrics = agent.train_step(steps)
    predicted = {key.removeprefix("model/").removesuffix("_loss") for key in metrics if key.endswith("_loss")}
    assert predicted & set(DICT) == seen
    others = {key: np.zeros_like(value) for key, value in steps.items() if key in set(DICT) - seen}
    latest = {key: value[-1] for key, value in steps.items()}
    actions = [
        agent.act(latest | changed, sample=False)[0] for changed in ({}, {key: others[key][-1] for key in others})
    ]
    np.testing.assert_array_equal(*actions)


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
def test_dmc_presets_refuse_an_environment_without_their_kind(
    name: str, observations: dict[str, ArraySpec], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        Dreamer(preset(name), EnvSpec(observations, CONTINUOUS), device="cpu")


def test_a_key_of_another_kind_is_refused() -> None:
    settings = {"world_model__encoder__kinds": "images", "world_model__encoder__keys": ("speed",)}
    with pytest.raises(ConfigError, match=r"encoder\.keys names 'speed', which is not among the images of"):
        Dreamer(tiny(**settings), EnvSpec(DICT, CONTINUOUS))


# --- sizes -----------------------------------------------------------------------------------------------------------

ATARI_COUNTS = {
    "encoder": 1_549_776,
    "rssm": 5_664_848,
    "decoder": 10_497_553,
    "reward_head": 1_131_601,
    "discount_head": 1_131_601,
    "actor": 1_138_418,
    "critic": 1_131_601,
    "trained": 22_245_398,
    "target_critic": 1_131_601,
}
SMALL_COUNTS = {
    "encoder": 172_528,
    "rssm": 1_044_848,
    "decoder": 1_516_721,
    "reward_head": 365_801,
    "discount_head": 365_801,
    "actor": 369_218,
    "critic": 365_801,
    "trained": 4_200_718,
    "target_critic": 365_801,
}


@pytest.mark.parametrize(
    ("name", "actions", "expected"),
    [
        ("atari", 18, ATARI_COUNTS),
        ("atari", 6, ATARI_COUNTS | {"rssm": 5_657_648, "actor": 1_133_606, "trained": 22_233_386}),
        ("atari-small", 18, SMALL_COUNTS),
    ],
)
def test_parameter_counts(name: str, actions: int, expected: dict[str, int]) -> None:
    spec = EnvSpec(ATARI_IMAGE, ActionSpec("discrete", (actions,)))
    agent = Dreamer(preset(name), spec, device="cpu")
    assert agent.parameter_counts() == expected
    # Counted once more without the agent's own bookkeeping.
    assert sum(p.numel() for p in agent.parameters() if p.requires_grad) == expected["trained"]
    assert sum(p.numel() for p in agent.parameters()) == expected["trained"] + expected["target_critic"]
    owned = (agent.model_optimizer, agent.actor_optimizer, agent.critic_optimizer)
    assert sum(p.numel() for optimizer in owned for p in optimizer.parameters) == expected["trained"]


def test_initial_weights() -> None:
    """Glorot-uniform kernels, output layers included, and zero biases; no layer is special."""
    agent = Dreamer(tiny(world_model__rssm__layer_norm=True), EnvSpec(DICT, CONTINUOUS))
    for name, module in agent.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            weight = module.weight
            fans = weight[0, 0].numel() * (weight.shape[0] + weight.shape[1])
            limit = (6 / fans) ** 0.5
            assert weight.abs().max() <= limit, name
            # The largest of n uniform values exceeds this with a probability of all but 1e-9.
            assert weight.abs().max() > limit * 1e-9 ** (1 / weight.numel()), name
            assert (module.bias == 0).all(), name


# --- gradients -------------------------------------------------------------------------------------------------------


def test_model_gradient_against_differences(monkeypatch: pytest.MonkeyPatch) -> None:
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
    steps = random_steps(agent.spec, (2, 2))
    steps["is_first"][1, 0] = True
    batch = model.preprocess(tensors(steps))
    noise = model.rssm.latents.draw_noise((2, 2), torch.Generator().manual_seed(0)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # away from zero biases: ELU bends at zero
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    gradients = torch.autograd.grad(model.loss(batch, None, noise).loss, list(model.parameters()))

    @torch.no_grad()
    def loss_at(parameter: Tensor, offset: Tensor) -> float:
        original = parameter.clone()
        parameter.add_(offset)
        value = model.loss(batch, None, noise).loss.item()
        parameter.copy_(original)
        return value

    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        random = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction = gradient / gradient.norm() + random / random.norm()
        step = 1e-5 * direction
        difference = loss_at(parameter, step) - loss_at(parameter, -step)
        assert difference == pytest.approx(2 * (gradient * step).sum().item(), rel=1e-5, abs=1e-12), name


@pytest.mark.parametrize(("steps", "lambda_"), list(product((1, 2, 7), (0.0, 0.3, 0.95, 1.0))))
def test_lambda_return_mixes_n_step_returns(steps: int, lambda_: float) -> None:
    generator = torch.Generator().manual_seed(steps)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()

    inputs = (draw(steps, 3), draw(steps, 3), draw(steps, 3), draw(3))
    torch.testing.assert_close(lambda_return(*inputs, lambda_), brute_force_return(*inputs, lambda_))
    assert torch.autograd.gradcheck(lambda *tensors: lambda_return(*tensors, lambda_), inputs)


HEADS = ("image", "vector", "reward", "discount")


@pytest.mark.parametrize(("head", "through"), list(product(HEADS, (True, False))))
def test_stopped_gradients(head: str, through: bool) -> None:
    """A head's loss alone trains the head, and the representation behind it only where it is let through."""
    settings = {f"world_model__loss_scales__{other}": float(other == head) for other in HEADS}
    settings |= {f"world_model__head_gradients__{other}": through if other == head else not through for other in HEADS}
    agent = Dreamer(tiny(**settings, world_model__kl__scale=0.0), EnvSpec(DICT, DISCRETE))
    model = agent.world_model
    batch = model.preprocess(tensors(random_steps(agent.spec, (3, 2))))
    gradients = torch.autograd.grad(model.loss(batch, None, None).loss, list(model.parameters()), allow_unused=True)
    trained = {
        name
        for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True)
        if gradient is not None and gradient.any()
    }
    parts = {
        "image": "decoder.cnn.",
        "vector": ("decoder.mlp.", "decoder.heads."),
        "reward": "reward_head.",
        "discount": "discount_head.",
    }
    representation = ("encoder.", "rssm.cell.", "rssm.input_layer.", "rssm.posterior_")
    allowed = {name for name, _ in model.named_parameters() if name.startswith(parts[head])}
    if through:
        allowed |= {name for name, _ in model.named_parameters() if name.startswith(representation)}
    # A bias behind dead units may have no gradient in so small a batch, but whole layers may not.
    assert trained <= allowed
    missing = {name for name in allowed - trained if name.endswith("weight")}
    assert not missing


# --- every kind of space ---------------------------------------------------------------------------------------------

SPACES = {
    "discrete": (DISCRETE, {}),
    "multi-discrete": (MULTI_DISCRETE, {}),
    "continuous": (CONTINUOUS, {}),
    "tanh-normal": (CONTINUOUS, {"behavior__actor__distribution": "tanh_normal"}),
    "both gradients": (CONTINUOUS, {"behavior__actor__gradient": "both"}),
    "straight-through": (MULTI_DISCRETE, {"behavior__actor__gradient": "both"}),
    "gaussian": (DISCRETE, {"world_model__rssm__latents": "gaussian"}),
    "noisy": (MULTI_DISCRETE, {"behavior__actor__exploration_noise": 0.3}),
    "noisy continuous": (CONTINUOUS, {"behavior__actor__exploration_noise": 0.3}),
}


def assert_valid_actions(action: np.ndarray[Any, Any], spec: ActionSpec) -> None:
    assert action.dtype == np.float32 and action.shape[-1] == spec.size
    if spec.kind == "continuous":
        assert (np.abs(action) <= 1).all()
        return
    for part in np.split(action, np.cumsum(spec.sizes)[:-1], -1):
        # One-hot up to the rounding of the straight-through gradient.
        assert np.allclose(part.sum(-1), 1, atol=1e-5) and np.allclose(part.max(-1), 1, atol=1e-5)


@pytest.mark.parametrize(("name", "precision"), list(product(SPACES, ("fp32", "bf16"))))
def test_learns_and_acts(name: str, precision: str) -> None:
    action_spec, settings = SPACES[name]
    agent = Dreamer(tiny(**settings, training__precision=precision), EnvSpec(DICT, action_spec))
    before = {key: value.clone() for key, value in agent.named_parameters()}
    for seed in range(2):
        metrics = agent.train_step(random_steps(agent.spec, (4, 3), seed))
        assert all(value.isfinite().all() for value in metrics.values()), metrics
        assert all(value.shape == () and not value.requires_grad for value in metrics.values())
    after = dict(agent.named_parameters())
    assert all(value.isfinite().all() for value in after.values())
    unmoved = {key for key, value in after.items() if torch.equal(value, before[key])}
    assert not unmoved
    assert agent.updates == 2

    observation = random_steps(agent.spec, (5,))
    del observation["action"]
    state = None
    for deterministic in (False, True):
        action, state = agent.act(observation, state, deterministic)
        assert action.shape == (5, action_spec.size)
        assert_valid_actions(action, action_spec)


def test_bf16_computes_nearly_the_same() -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        agent = Dreamer(tiny(training__precision=precision), EnvSpec(DICT, DISCRETE), seed=1)
        metrics = agent.train_step(random_steps(agent.spec, (4, 3)), sample=False)
        losses[precision] = {key: value.item() for key, value in metrics.items() if key.endswith("_loss")}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05, abs=0.05)
    assert losses["bf16"] != losses["fp32"]


def test_is_first_forgets_the_row() -> None:
    """A row that starts an episode acts as if there had been nothing before, and the others go on."""
    agent = Dreamer(tiny(), EnvSpec(DICT, CONTINUOUS))
    first, second = (random_steps(agent.spec, (3,), seed) for seed in (0, 1))
    first["is_first"][:] = True
    second["is_first"][:] = [True, False, False]
    state = None
    for observation in (first, {**first, "is_first": np.zeros(3, bool)}):  # h is zero right after a reset, not later
        _, state = agent.act(observation, state, sample=False)
    action, later = agent.act(second, state, sample=False)
    fresh_action, fresh = agent.act(second, None, sample=False)
    np.testing.assert_array_equal(action[0], fresh_action[0])
    assert torch.equal(later.latent.deter[0], fresh.latent.deter[0])
    assert not torch.equal(later.latent.deter[1:], fresh.latent.deter[1:])
    without = {key: value for key, value in second.items() if key != "is_first"}
    _, unmarked = agent.act(without, state, sample=False)
    assert not torch.equal(unmarked.latent.deter[0], fresh.latent.deter[0])


def test_batches_may_change_their_size() -> None:
    """The carried state of another batch size is dropped rather than misapplied."""
    agent = Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE))
    for size in (3, 2):
        agent.train_step(random_steps(agent.spec, (3, size)))
        assert agent.carry is not None and agent.carry.deter.shape[0] == size


def test_world_model_alone_is_the_first_half_of_an_update() -> None:
    """The same weights, carried state and metrics as after whole updates; nothing else has moved or was counted."""
    both, alone = (Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE), seed=3) for _ in range(2))
    before = {key: value.clone() for key, value in alone.behavior.state_dict().items()}
    whole = both.train_step(random_steps(both.spec, (4, 2)))
    half = alone.train_world_model(random_steps(alone.spec, (4, 2)))
    assert {name: value for name, value in whole.items() if not name.startswith("behavior/")} == half
    learned = alone.world_model.state_dict()
    assert all(torch.equal(value, learned[key]) for key, value in both.world_model.state_dict().items())
    assert both.carry is not None and alone.carry is not None
    assert torch.equal(both.carry.deter, alone.carry.deter)
    assert all(torch.equal(value, before[key]) for key, value in alone.behavior.state_dict().items())
    optimizers = (alone.model_optimizer, alone.actor_optimizer, alone.critic_optimizer)
    assert (alone.updates, *(optimizer.updates for optimizer in optimizers)) == (1, 1, 0, 0)


@pytest.mark.parametrize("pretraining", [0, 3])
def test_target_critic_after_pretraining_is_copied_at_updates_1_and_101(pretraining: int) -> None:
    """Updates of the critic count, not those of the world model alone; the first copy is a full one (SPEC 32)."""
    config = tiny(behavior__critic__target_update_interval=100, behavior__critic__target_tau=0.5)
    agent = Dreamer(config, EnvSpec(ATARI_IMAGE, DISCRETE), seed=3)
    batch = random_steps(agent.spec, (2, 1))
    for _ in range(pretraining):
        agent.train_world_model(batch)
    critic, target = (agent.behavior.critic.mlp[-1].weight, agent.behavior.target_critic.mlp[-1].weight)
    agent.train_step(batch)
    assert torch.equal(target, critic)
    first = target.clone()
    for _ in range(2, 101):
        agent.train_step(batch)
        assert torch.equal(target, first)
    agent.train_step(batch)
    torch.testing.assert_close(target, (first + critic) / 2)


@pytest.mark.parametrize("head", ["critic", "target_critic", "reward_head", "discount_head"])
def test_output_layers_in_bf16_keep_float32_values(head: str) -> None:
    """A value of 64 in bfloat16 has steps of 0.5; what the hidden layers say about it must not be lost."""
    agent = Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE), seed=3)
    part = getattr(agent.behavior if "critic" in head else agent.world_model, head)
    mlp = part.mlp if "critic" in head else part
    torch.nn.init.constant_(mlp[-1].bias, 64.0)
    feat = torch.randn((50, mlp[0].linear.in_features), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = mlp(feat)
        hidden = feat
        for layer in list(mlp)[:-1]:
            hidden = layer(hidden)
    expected = hidden.double() @ mlp[-1].weight.double().T + 64
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)


# --- reproducibility -------------------------------------------------------------------------------------------------


def trained_weights(seed: int) -> dict[str, Tensor]:
    agent = Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE), seed=seed)
    observation = random_steps(agent.spec, (2,))
    for step in range(3):
        agent.act(observation)
        agent.train_step(random_steps(agent.spec, (4, 3), step))
    action, _ = agent.act(observation)
    return {**agent.state_dict(), "next action": torch.from_numpy(action)}


def test_same_seed_same_weights() -> None:
    first, again, other = (trained_weights(seed) for seed in (5, 5, 6))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    weights = [key for key in first if key.endswith("weight")]
    assert not any(torch.equal(first[key], other[key]) for key in weights)


def test_samples_differ_and_modes_do_not() -> None:
    """Two agents with equal weights: draws come from the generator, `sample=False` takes none."""
    spec = EnvSpec(ATARI_IMAGE, DISCRETE)
    one, two = (Dreamer(tiny(), spec, seed=0) for _ in range(2))
    two.generator.manual_seed(1234)
    batch = random_steps(spec, (4, 3))
    sampled = [agent.train_step(batch)["model/kl"].item() for agent in (one, two)]
    assert sampled[0] != sampled[1]
    one, two = (Dreamer(tiny(), spec, seed=0) for _ in range(2))
    state = two.generator.manual_seed(1234).get_state()
    modes = [agent.train_step(batch, sample=False)["model/kl"].item() for agent in (one, two)]
    assert modes[0] == modes[1]
    assert torch.equal(two.generator.get_state(), state)


def test_deterministic_actions_are_modes() -> None:
    """Evaluation takes the policy's mode in a latent state that is sampled all the same."""
    agent = Dreamer(tiny(), EnvSpec(ATARI_IMAGE, CONTINUOUS))
    observation = random_steps(agent.spec, (1,))
    latents = set()
    for seed in range(8):
        action, state = agent.act(observation, deterministic=True, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            mode = agent.behavior.actor(state.latent.feat).mode()
        np.testing.assert_allclose(action, mode.numpy(), atol=1e-6)
        latents.add(tuple(state.latent.stoch.round().flatten().tolist()))
    assert len(latents) > 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_device() -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        resolve_device("cuda")

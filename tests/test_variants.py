"""Variants by name: each changes what it says, and moves the parameters that it should."""

import itertools

import numpy as np
import pytest
import torch

from reverie.agents import build_agent, num_parameters
from reverie.config import (
    ABLATIONS,
    VARIANTS,
    Config,
    DecoderConfig,
    EncoderConfig,
    combined,
    diff,
    flatten,
    preset,
    with_variant,
)
from reverie.dreamer import Dreamer
from reverie.dreamer.encoder_decoder import ImageDecoder, ImageEncoder
from reverie.dreamer.rssm import GRUCell
from reverie.envs import make_env
from reverie.errors import ConfigError
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from reverie.training.videos import draw_dream
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, DISCRETE, random_steps, tensors, tiny

SPEC = EnvSpec(ATARI_IMAGE, DISCRETE)
MODIFICATIONS = {
    "categorical-latents": "gaussian-latents",
    "mixed-gradients": "straight-through-only",
    "policy-entropy": "action-noise",
    "kl-balancing": "free-nats",
    "size-22m": "size-13m",
    "gru-norm": "no-gru-norm",
}
"""The article's summary of modifications in its order, each with the variant of atari-paper that is without it."""


def changed(base: Config, name: str) -> dict[str, object]:
    return {path: now for path, _, now in diff(with_variant(base, name), base)}


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset_name", ["atari-paper", "atari-small", "minatar", "dreamer-v1", "article"])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_fits_every_preset(name: str, preset_name: str) -> None:
    config = with_variant(preset(preset_name), name)
    values = flatten(config)
    assert {path: values[path] for path in VARIANTS[name].settings} == dict(VARIANTS[name].settings)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_the_full_agent(name: str) -> None:
    """Against the article's agent each is a change, and of one thing."""
    paths = set(changed(preset("atari-paper"), name))
    assert paths and paths <= set(VARIANTS[name].settings)
    assert len({path.rsplit(".", 1)[0] for path in paths}) == 1


def test_the_articles_modifications_each_undo_one_variant_of_its_agent() -> None:
    """From the agent without any of them one after the other leads to atari-paper; none is there before its turn."""
    paper = preset("atari-paper")
    config = with_variant(paper, "+".join(MODIFICATIONS.values()))
    for name, without in MODIFICATIONS.items():
        assert changed(paper, without)
        assert with_variant(with_variant(paper, without), name) == paper
        assert changed(config, name)
        config = with_variant(config, name)
    assert config == paper


def test_dreamer_v1_has_the_defaults_of_its_code() -> None:
    """danijar/dreamer, dreamer.py and models.py, transcribed; its numbers of steps are frames, at two a step."""
    values = flatten(preset("dreamer-v1"))
    expected = {
        "env.action_repeat": 2, "env.time_limit": 1000 // 2, "env.grayscale": False, "training.steps": 5_000_000 // 2,
        "training.prefill": 5000 // 2, "training.train_every": 1000 // 2, "training.train_steps": 100,
        "training.eval_every": 10_000 // 2, "training.eval_episodes": 1, "training.log_every": 1000 // 2,
        "replay.batch_size": 50, "replay.batch_length": 50, "replay.sampling": "episodes",
        "replay.prioritize_ends": False, "world_model.rssm.deter": 200, "world_model.rssm.hidden": 200,
        "world_model.rssm.stoch": 30, "world_model.rssm.latents": "gaussian",
        "world_model.rssm.std_activation": "softplus", "world_model.rssm.min_std": 0.1,
        "world_model.rssm.gru_layer_norm": False, "world_model.encoder.kinds": "images",
        "world_model.decoder.kinds": "images", "world_model.encoder.cnn_depth": 32, "world_model.decoder.cnn_depth": 32,
        "world_model.encoder.cnn_activation": "relu", "world_model.decoder.cnn_activation": "relu",
        "world_model.reward_head.layers": 2, "world_model.reward_head.units": 400,
        "world_model.discount_head.layers": 3,
        "world_model.predict_discount": False, "world_model.loss_scales.discount": 10.0, "world_model.discount": 0.99,
        "world_model.reward_transform": "identity", "world_model.kl.scale": 1.0, "world_model.kl.free_nats": 3.0,
        "world_model.kl.balance": 0.5, "world_model.kl.free_average": True, "world_model.kl.equal_scale": False,
        "world_model.optimizer.lr": 6e-4, "behavior.actor.optimizer.lr": 8e-5, "behavior.critic.optimizer.lr": 8e-5,
        "behavior.horizon": 15, "behavior.return_lambda": 0.95, "behavior.actor.distribution": "tanh_normal",
        "behavior.actor.init_std": 5.0, "behavior.actor.min_std": 1e-4, "behavior.actor.layers": 4,
        "behavior.actor.gradient": "dynamics", "behavior.actor.entropy": 0.0, "behavior.actor.exploration_noise": 0.3,
        "behavior.critic.layers": 3, "behavior.critic.slow_target": False,
    }  # fmt: skip
    for part in ("world_model", "behavior.actor", "behavior.critic"):
        expected |= {f"{part}.optimizer.{name}": value for name, value in (("max_grad_norm", 100), ("weight_decay", 0))}
        expected |= {f"{part}.optimizer.eps": 1e-7}  # Keras' default
    assert {path: values[path] for path in expected} == expected
    # The first call trains 100 times, and so does every later one; here the first is due at once, without pretraining.
    assert values["training.pretrain"] == 0
    assert preset("dreamer-v1").replay.capacity >= 2_500_000 + 2_500_000 // 500  # Dreamer drops no step, and no reset


def test_dreamer_v1_has_dreamers_layers() -> None:
    """Counted from its code for six continuous actions: 6.3M, and 6.7M with the discount head that it does not use."""
    spec = EnvSpec({"image": ArraySpec((64, 64, 3), "uint8")}, ActionSpec("continuous", (6,)))

    def dense(*sizes: int) -> int:
        return sum((i + 1) * o for i, o in itertools.pairwise(sizes))

    encoder = dense(3 * 16, 32) + dense(32 * 16, 64) + dense(64 * 16, 128) + dense(128 * 16, 256)
    decoder = dense(230, 1024) + sum((i * k * k + 1) * o for i, o, k in [(1024, 128, 5), (128, 64, 5), (64, 32, 6)])
    decoder += 32 * 36 * 3 + 3
    gru = 400 * 600 + 600  # Keras' cell has 600 biases more
    rssm = dense(36, 200) + gru + 2 * dense(200, 60) + dense(200, 200) + dense(1224, 200)
    reward, critic = dense(230, 400, 400, 1), dense(230, 400, 400, 400, 1)
    actor = dense(230, 400, 400, 400, 400, 12)
    agent = Dreamer(preset("dreamer-v1"), spec)
    assert num_parameters(agent) == encoder + decoder + rssm + reward + critic + actor == 6_288_233
    with_head = Dreamer(preset("dreamer-v1").override(**{"world_model.predict_discount": True}), spec)
    assert num_parameters(with_head) == pytest.approx(6.70e6, rel=1e-3)


def test_dreamer_v1_acts_widely_at_first() -> None:
    agent = Dreamer(preset("dreamer-v1"), EnvSpec({"image": ArraySpec((64, 64, 3), "uint8")}, CONTINUOUS))
    policy = agent.actor_critic.actor(torch.zeros(1, 230))
    torch.testing.assert_close(policy.scale, torch.full((1, 2), 5.0001))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_convolutions_with_relu_are_pytorchs(layer_norm: bool) -> None:
    encoder = ImageEncoder(3, EncoderConfig(cnn_depth=2, layer_norm=layer_norm, cnn_activation="relu"))
    decoder = ImageDecoder(5, 3, DecoderConfig(cnn_depth=2, layer_norm=layer_norm, cnn_activation="relu"))
    image, feat = torch.rand(2, 64, 64, 3), torch.randn(2, 5)
    x = image.movedim(-1, 1)
    for layer in encoder:
        x = layer.norm(layer.conv(x).movedim(1, -1)).relu().movedim(-1, 1)
    torch.testing.assert_close(encoder(image), x.movedim(1, -1).flatten(1))
    x = decoder.linear(feat)[:, :, None, None]
    for layer in decoder.layers[:-1]:
        x = layer.norm(layer.conv(x).movedim(1, -1)).relu().movedim(-1, 1)
    torch.testing.assert_close(decoder(feat), decoder.layers[-1].conv(x).movedim(1, -1))


def test_the_article_is_the_papers_agent_with_the_split_objective() -> None:
    assert preset("article") == with_variant(preset("atari-paper"), "split")
    values = flatten(preset("article"))
    scales = [values[f"world_model.loss_scales.{head}"] for head in ("image", "reward", "discount")]
    assert [*scales, values["world_model.kl.prior_scale"], values["world_model.kl.posterior_entropy_scale"]] == [
        1 / 12288, 1, 1, 0.08, 0.02,
    ]  # fmt: skip


def test_the_articles_schedules_count_frames() -> None:
    """0.1 to 0 and 3e-3 to 3e-4 over the first 10M environment frames, whatever the action repeat."""
    for repeat in (4, 1):
        actor = {
            path: value for path, value in flatten(preset("article")).items() if path.startswith("behavior.actor.")
        }
        sizes = {"behavior.actor.units": 16, "behavior.actor.layers": 1, "env.action_repeat": repeat}
        small = tiny().override(**{**actor, **sizes})
        actor_critic = Dreamer(small, SPEC).actor_critic
        for frames, dynamics, entropy in ((0, 0.1, 3e-3), (5e6, 0.05, 1.65e-3), (10e6, 0, 3e-4), (2e8, 0, 3e-4)):
            numbers = actor_critic.scheduled_values(frames / repeat)
            assert numbers["dynamics_weight"] == pytest.approx(dynamics)
            assert numbers["reinforce_weight"] == 0.9
            assert numbers["entropy_weight"] == pytest.approx(entropy)


def test_variants_join() -> None:
    assert combined("no-gru-norm+size_13m") == {
        **VARIANTS["no-gru-norm"].settings,
        **VARIANTS["size-13m"].settings,
    }
    assert combined("no-kl-balancing+free-nats")["world_model.kl.free_nats"] == 3.0  # they agree on what they share
    with pytest.raises(ConfigError, match=r"gaussian-latents and binary-latents contradict each other in .*latents"):
        combined("gaussian-latents+binary-latents")
    with pytest.raises(ConfigError, match=r"no variant 'gausian-latents'; did you mean gaussian-latents"):
        combined("full+gausian-latents")


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "millions"), [("size-13m", 12.85), ("size-22m", 22.25)])
def test_sizes(name: str, millions: float) -> None:
    spec = EnvSpec(ATARI_IMAGE, ActionSpec("discrete", (18,)))
    other = with_variant(preset("atari"), "size-13m") if name == "size-22m" else preset("atari")
    agent = Dreamer(with_variant(other, name), spec)
    assert num_parameters(agent) / 1e6 == pytest.approx(millions, abs=0.01)


# --- what moves ------------------------------------------------------------------------------------------------------

POSTERIOR = ("encoder.", "rssm.cell.", "rssm.input_layer.", "rssm.posterior_")
PRIOR = ("rssm.prior_",)


def moved_by_the_kl(variant: str, **settings: object) -> set[str]:
    """Parameters that the term between posterior and prior moves, when it is all there is."""
    nothing = {f"world_model__loss_scales__{head}": 0.0 for head in ("image", "vector", "reward", "discount")}
    base = with_variant(tiny(**settings), variant)
    agent = Dreamer(base.override(**{key.replace("__", "."): value for key, value in nothing.items()}), SPEC)
    model = agent.world_model
    batch = tensors(random_steps(SPEC, (4, 3)))
    noise = model.rssm.latents.draw_noise((4, 3), torch.Generator().manual_seed(0))
    named = list(model.named_parameters())
    loss = model.loss(batch, None, noise).loss
    gradients = torch.autograd.grad(loss, [value for _, value in named], allow_unused=True)
    return {
        name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is not None and gradient.any()
    }


@pytest.mark.parametrize(
    "variant", ["full", "split", "no-kl-balancing", "gaussian-latents", "binary-latents", "no-gru-norm"]
)
def test_the_kl_moves_posterior_and_prior_and_no_head(variant: str) -> None:
    moved = moved_by_the_kl(variant)
    assert all(name.startswith(POSTERIOR + PRIOR) for name in moved)
    for part in (*POSTERIOR, *PRIOR):
        assert any(name.startswith(part) for name in moved), part


def test_free_nats_stop_both_sides() -> None:
    assert moved_by_the_kl("free-nats", world_model__rssm__stoch=1) == set()
    assert moved_by_the_kl("no-kl-balancing", world_model__rssm__stoch=1)


def test_free_nats_and_dreamer_clip_the_mean_of_the_batch_at_scale_one() -> None:
    kl = with_variant(preset("atari-paper"), "free-nats").world_model.kl
    assert (kl.scale, kl.balance, kl.free_nats, kl.free_average, kl.equal_scale) == (1.0, 0.5, 3.0, True, False)


def test_kl_balancing_on_the_articles_loss_gives_the_papers() -> None:
    assert with_variant(preset("article"), "kl-balancing") == preset("atari-paper")


def test_splitting_ignores_what_belongs_to_balancing() -> None:
    """Scale, balance and free nats have no effect on the split objective, and its weights none on the balanced one."""
    batch = tensors(random_steps(SPEC, (4, 3)))

    def kl_loss(**settings: object) -> float:
        model = Dreamer(tiny(**settings), SPEC, seed=1).world_model
        return float(model.loss(batch, None, None).metrics["model/kl_loss"])

    split = {"world_model__kl__objective": "split"}
    other = {"world_model__kl__scale": 9.0, "world_model__kl__free_nats": 50.0, "world_model__kl__balance": 0.1}
    assert kl_loss(**split) == kl_loss(**split, **other)
    assert kl_loss(**split) != kl_loss(**split, world_model__kl__prior_scale=0.5)
    assert kl_loss(**split) != kl_loss(**split, world_model__kl__posterior_entropy_scale=0.5)
    weights = {"world_model__kl__prior_scale": 0.5, "world_model__kl__posterior_entropy_scale": 0.5}
    assert kl_loss() == kl_loss(**weights)


def test_the_split_term_enters_the_loss_as_it_is() -> None:
    nothing = {f"world_model__loss_scales__{head}": 0.0 for head in ("image", "vector", "reward", "discount")}
    model = Dreamer(tiny(**nothing, world_model__kl__objective="split"), SPEC).world_model
    result = model.loss(tensors(random_steps(SPEC, (4, 3))), None, None)
    entropy, kl = result.metrics["model/posterior_entropy"], result.metrics["model/kl"]
    assert result.loss.item() == pytest.approx((0.08 * (kl + entropy) - 0.02 * entropy).item(), rel=1e-5)


def test_only_the_layer_norm_is_missing() -> None:
    shapes = [
        {name: value.shape for name, value in Dreamer(with_variant(tiny(), variant), SPEC).named_parameters()}
        for variant in ("gru-norm", "no-gru-norm")
    ]
    assert set(shapes[0]) - set(shapes[1]) == {"world_model.rssm.cell.norm.weight", "world_model.rssm.cell.norm.bias"}
    assert {name: shape for name, shape in shapes[0].items() if name in shapes[1]} == shapes[1]


def test_a_gru_without_layer_norm_by_its_equations() -> None:
    cell = GRUCell(3, 4, layer_norm=False)
    generator = np.random.default_rng(0)
    x, h = generator.normal(size=(2, 3)), generator.normal(size=(2, 4))
    weight, bias = cell.linear.weight.detach().double().numpy(), cell.linear.bias.detach().double().numpy()
    reset, candidate, update = np.split(np.concatenate([x, h], -1) @ weight.T + bias, 3, -1)

    def sigmoid(value: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return 1 / (1 + np.exp(-value))

    update = sigmoid(update - 1)
    expected = update * np.tanh(sigmoid(reset) * candidate) + (1 - update) * h
    found = cell(torch.from_numpy(x).float(), torch.from_numpy(h).float())
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("variant", ["reinforce-only", "straight-through-only", "mixed-gradients"])
def test_the_actors_loss_moves_the_actor_alone(variant: str) -> None:
    """Its gradient may pass through the world model and the critic, and changes neither."""
    still = {"world_model__optimizer__weight_decay": 0.0, "behavior__critic__optimizer__weight_decay": 0.0}
    still |= {"world_model__optimizer__lr": 0.0, "behavior__critic__optimizer__lr": 0.0}
    agent = Dreamer(with_variant(tiny(**still), variant), SPEC)
    before = {name: value.clone() for name, value in agent.named_parameters()}
    agent.train_step(tensors(random_steps(SPEC, (4, 3))))
    moved = {name for name, value in agent.named_parameters() if not torch.equal(value, before[name])}
    # The target critic took over the critic, as after every first update.
    assert {name.rsplit(".", 1)[0] for name in moved if not name.startswith("actor_critic.target_critic.")} == {
        name.rsplit(".", 1)[0] for name in before if name.startswith("actor_critic.actor.")
    }


@pytest.mark.parametrize(
    ("variant", "differentiated"),
    [("reinforce-only", False), ("straight-through-only", True), ("mixed-gradients", True)],
)
def test_only_dynamics_gradients_look_into_the_rollout(variant: str, differentiated: bool) -> None:
    agent = Dreamer(with_variant(tiny(), variant), SPEC)
    model = agent.world_model
    steps = tensors(random_steps(SPEC, (3, 2)))
    found = model.loss(steps, None, None)
    start = found.posterior.map(lambda part: part.detach().flatten(0, 1))
    start.deter.requires_grad_()
    result = agent.actor_critic.loss(model, start, steps["is_terminal"].flatten(), None)
    (gradient,) = torch.autograd.grad(result.actor, start.deter, allow_unused=True)
    assert (gradient is not None and bool(gradient.any())) is differentiated


def test_action_noise_takes_the_place_of_entropy() -> None:
    agent = Dreamer(with_variant(tiny(), "action-noise"), SPEC)
    assert agent.actor_critic.scheduled_values(0)["entropy_weight"] == 0
    observation = tensors(random_steps(SPEC, (400,)))
    with torch.no_grad():  # a policy that is certain
        agent.actor_critic.actor.head.bias.copy_(torch.tensor([50.0, 0, 0, 0]))
    action, _ = agent.act(observation)
    others = (action.argmax(-1) != 0).float().mean().item()
    assert others == pytest.approx(0.3 * 3 / 4, abs=0.06)


@pytest.mark.parametrize("variant", ["binary-latents", "split", "long-term-entropy", "split+gaussian-latents"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_new_variants_learn_and_act(variant: str, precision: str) -> None:
    agent = build_agent(with_variant(tiny(training__precision=precision), variant), SPEC)
    before = {name: value.clone() for name, value in agent.named_parameters()}
    for seed in range(2):
        metrics = agent.train_step(tensors(random_steps(SPEC, (4, 3), seed)))
        assert all(value.isfinite() for value in metrics.values()), metrics
    assert not [name for name, value in agent.named_parameters() if torch.equal(value, before[name])]
    action, _ = agent.act(tensors(random_steps(SPEC, (5,))))
    assert action.shape == (5, 4)
    video, _ = draw_dream(agent, random_steps(SPEC, (4, 2)), 2, torch.Generator())
    assert len(video) == 4


def test_the_articles_preset_has_an_environment() -> None:
    """Its settings make a real Atari game with all 18 actions."""
    with make_env(preset("article").for_env("ALE/Pong-v5").env, seed=0) as env:
        assert env.spec.action.sizes == (18,)


def test_dreamer_v1_sees_colours() -> None:
    with make_env(preset("dreamer-v1").for_env("ALE/Pong-v5").env, seed=0) as env:
        assert env.spec.observations["image"].shape == (64, 64, 3)

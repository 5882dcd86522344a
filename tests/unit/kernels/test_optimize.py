"""`kernels.optimize`: choice of kernels, and plain against optimised agents over random configurations."""

import pkgutil
import warnings
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reverie.config import ConfigError
from reverie.dreamer import Dreamer
from reverie.dreamer.actor_critic import ActorCritic
from reverie.dreamer.encoder_decoder import ConvLayer
from reverie.dreamer.imagination import ImaginationNoise
from reverie.dreamer.layers import MLP, Dense
from reverie.dreamer.optimizer import Optimizer
from reverie.dreamer.rssm import RSSM, State
from reverie.kernels import NAMES, library, optimize
from reverie.kernels.replaced import REPLACED, fingerprint
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, DICT, DISCRETE, MULTI_DISCRETE, random_steps, tensors, tiny

needs_compiler = pytest.mark.skipif(library.load() is None, reason="no C compiler here")
PLAIN = {Dense, MLP, ConvLayer, RSSM, ActorCritic, Optimizer}


def make_agent(action: ActionSpec = DISCRETE, **settings: Any) -> Dreamer:
    return Dreamer(tiny(**settings), EnvSpec(ATARI_IMAGE, action), seed=0)


def fast_classes(agent: Dreamer) -> set[str]:
    """Return the names of the classes that are not plain."""
    parts = [*agent.modules(), agent.model_optimizer, agent.actor_optimizer, agent.critic_optimizer]
    return {type(part).__name__ for part in parts if "kernels" in type(part).__module__}


ALL = {"FastRSSM", "FastActorCritic", "FastDense", "FastMLP", "FastConvLayer", "FusedAdam"}


@needs_compiler
@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (None, ALL),
        (list(NAMES), ALL),
        ([], set()),
        (["filtering"], {"FastRSSM"}),
        (["imagination"], {"FastActorCritic"}),
        (["dense", "adam"], {"FastDense", "FastMLP", "FusedAdam"}),
        (["convolutions"], {"FastConvLayer"}),
        (["graphs", "compile"], set()),
    ],
    ids=["default", "all", "none", "filtering", "imagination", "dense-adam", "convolutions", "cuda"],
)
def test_optimize_only_uses_the_named_kernels(only: list[str] | None, expected: set[str]) -> None:
    agent = make_agent()
    names = list(agent.state_dict())
    assert optimize(agent, only) is agent
    assert fast_classes(agent) == expected
    assert list(agent.state_dict()) == names


@needs_compiler
@pytest.mark.parametrize(
    ("value", "expected"), [("0", set()), ("", ALL), ("filtering, adam", {"FastRSSM", "FusedAdam"})]
)
def test_optimize_reads_the_environment_variable(
    value: str, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVERIE_KERNELS", value)
    assert fast_classes(optimize(make_agent())) == expected
    assert fast_classes(optimize(make_agent(), ["adam"])) == {"FusedAdam"}, "the argument comes first"


def test_optimize_with_an_unknown_name_says_which_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"only names 'fast', which is not a kernel. Use some of filtering, .*adam"):
        optimize(make_agent(), ["adam", "fast"])
    monkeypatch.setenv("REVERIE_KERNELS", "on")
    with pytest.raises(ConfigError, match=r"REVERIE_KERNELS names 'on'"):
        optimize(make_agent())


def test_optimize_without_a_compiler_uses_what_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "load", lambda: None)
    assert fast_classes(optimize(make_agent())) == {"FusedAdam"}


@needs_compiler
@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"world_model__rssm__latents": "gaussian"}, {"FastRSSM", "FastActorCritic"}),
        ({"world_model__rssm__gru_layer_norm": False}, {"FastRSSM", "FastActorCritic"}),
        ({"world_model__rssm__layer_norm": True}, {"FastRSSM", "FastActorCritic"}),
        ({"behavior__actor__layer_norm": True}, {"FastActorCritic"}),
        ({"behavior__actor__layers": 0}, {"FastActorCritic"}),
    ],
    ids=["gaussian", "no GRU norm", "layer norm", "actor norm", "actor without layers"],
)
def test_optimize_leaves_plain_what_is_not_supported(settings: dict[str, Any], missing: set[str]) -> None:
    assert fast_classes(optimize(make_agent(**settings))) == ALL - missing


@needs_compiler
def test_optimize_of_an_agent_with_continuous_actions_imagines_plainly() -> None:
    assert fast_classes(optimize(make_agent(CONTINUOUS))) == ALL - {"FastActorCritic"}


@needs_compiler
def test_optimize_leaves_subclasses_of_plain_modules() -> None:
    class OwnRSSM(RSSM):
        pass

    agent = make_agent()
    agent.world_model.rssm.__class__ = OwnRSSM
    assert type(optimize(agent).world_model.rssm) is OwnRSSM


CHANGES = {
    "rssm:GRUCell.forward": {"FastRSSM", "FastActorCritic"},
    "rssm:RSSM.prior": {"FastActorCritic"},
    "rssm:RSSM.posterior": {"FastRSSM"},
    "latents:Categorical.stats": {"FastRSSM", "FastActorCritic"},
    "distributions:straight_through": {"FastRSSM", "FastActorCritic"},
    "heads:Actor.forward": {"FastActorCritic"},
    "imagination:imagine_states": {"FastActorCritic"},
    "distributions:OneHot.__init__": {"FastActorCritic"},
    "layers:MLP.forward": {"FastDense", "FastMLP", "FastActorCritic"},
    "layers:Dense.forward": {"FastDense", "FastMLP", "FastRSSM", "FastActorCritic"},
    "encoder_decoder:ConvLayer.forward": {"FastConvLayer"},
    "optimizer:Optimizer.apply": {"FusedAdam"},
    "rssm:UPDATE_BIAS": {"FastRSSM", "FastActorCritic"},
}
"""Classes that are not used where a function or a value of `dreamer` is another one."""


@needs_compiler
@pytest.mark.parametrize("name", CHANGES)
def test_optimize_after_a_change_in_dreamer_warns_and_leaves_it_plain(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "reverie.dreamer." + name.replace(":", ".")
    plain = pkgutil.resolve_name(f"reverie.dreamer.{name}")
    monkeypatch.setattr(path, -1.1 if name.endswith("BIAS") else lambda *args: plain(*args))
    with pytest.warns(UserWarning, match=rf"The kernel .* is not used, because .*{name.split(':')[1]}.* changed"):
        agent = optimize(make_agent())
    assert fast_classes(agent) == ALL - CHANGES[name]


def test_fingerprints_of_the_plain_code_are_those_that_the_kernels_were_written_for() -> None:
    """If an equation was changed: change the kernel, too, then write the new fingerprints."""
    current = {kernel: {name: fingerprint(name) for name in known} for kernel, known in REPLACED.items()}
    assert current == REPLACED


def test_fingerprint_depends_on_code_and_not_on_comments_or_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    def sources(text: str) -> str:
        monkeypatch.setattr("inspect.getsource", lambda _: text)
        return fingerprint("rssm:RSSM.recur")

    plain = sources("def f(x):\n    return x + 1\n")
    assert sources('def f(x):\n    """Add."""\n    # one\n    return x + 1  # more\n') == plain
    assert sources("def f(x):\n    return x + 2\n") != plain
    assert sources("    def f(x):\n        return (\n            x + 1\n        )\n") != "", "methods are indented"


@needs_compiler
@pytest.mark.parametrize("change", ["subclass", "patched", "hook"])
@pytest.mark.parametrize("part", ["cell", "actor"])
def test_optimize_leaves_modules_that_contain_another_one(change: str, part: str) -> None:
    agent = make_agent()
    module = agent.world_model.rssm.cell if part == "cell" else agent.actor_critic.actor
    if change == "subclass":
        module.__class__ = type("Own", (type(module),), {"__module__": "own"})
    elif change == "patched":
        module.forward = module.forward
    else:
        module.register_forward_hook(lambda *_: None)
    missing = {"FastRSSM", "FastActorCritic"} if part == "cell" else {"FastActorCritic"}
    assert fast_classes(optimize(agent)) == ALL - missing


@needs_compiler
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_optimize_without_gradients_converts(context: Any) -> None:
    with context():
        agent = make_agent()
        assert fast_classes(optimize(agent)) == ALL


@needs_compiler
def test_imagine_from_strided_expanded_and_zero_states_equals_the_plain_rollout() -> None:
    plain, fast = make_agent(), optimize(make_agent())
    generator = torch.Generator().manual_seed(0)
    stats = torch.randn((4, 2, *plain.world_model.rssm.latents.stats_shape), generator=generator)
    stoch = plain.world_model.rssm.latents.sample(stats, torch.rand(stats.shape[:-1], generator=generator))
    states = State(torch.randn((4, 2, plain.world_model.rssm.deter_size), generator=generator), stoch, stats)
    starts = [
        states.map(lambda part: part[:, 0]),
        states.map(lambda part: part[0, :1].expand(4, *part.shape[2:])),
        plain.world_model.rssm.initial((4,)),
        states.map(lambda part: part[:, 1])._replace(stoch=stats[:, 1].softmax(-1).flatten(-2)),
    ]
    noise = plain.actor_critic.draw_noise(plain.world_model, 4, generator)
    swapped = ImaginationNoise(*(part.double().transpose(0, 1).contiguous().transpose(0, 1) for part in noise))
    for start in starts:
        with torch.no_grad():
            expected, found = (
                agent.actor_critic.imagine(agent.world_model, start, torch.zeros(4, dtype=torch.bool), draws)
                for agent, draws in ((plain, noise), (fast, swapped))
            )
        torch.testing.assert_close(1.0 * found.feat, expected.feat, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.action, expected.action, atol=1e-5, rtol=1e-4)


@needs_compiler
def test_observe_with_strided_noise_equals_the_plain_filter() -> None:
    plain, fast = (agent.world_model.rssm for agent in (make_agent(), optimize(make_agent())))
    generator = torch.Generator().manual_seed(0)
    embed = torch.randn((3, 2, plain.posterior_layer.linear.in_features - plain.deter_size), generator=generator)
    action, is_first = torch.zeros((3, 2, DISCRETE.size)), torch.zeros((3, 2), dtype=torch.bool)
    noise = plain.latents.draw_noise((1, 2), generator).expand(3, -1, -1)
    expected, found = (rssm.observe(embed, action, is_first, None, noise) for rssm in (plain, fast))
    torch.testing.assert_close(found.feat, expected.feat, atol=1e-5, rtol=1e-4)


@needs_compiler
def test_optimised_layers_after_assignment_of_data_use_the_new_weights() -> None:
    plain, fast = (agent.actor_critic.critic for agent in (make_agent(), optimize(make_agent())))
    feat = torch.randn((5, plain.mlp[0].linear.in_features), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        fast(feat)
        for critic in (plain, fast):
            critic.mlp[0].linear.weight.data = 2 * critic.mlp[0].linear.weight.detach()
        torch.testing.assert_close(fast(feat), plain(feat), atol=0.05, rtol=0.05)
    assert fast(feat[0]).shape == ()


@needs_compiler
def test_optimize_draws_from_no_shared_generator() -> None:
    agent, state = make_agent(), torch.get_rng_state()
    states = [generator.get_state() for generator in (agent.generator, agent.act_generator)]
    optimize(agent)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(agent.generator.get_state(), states[0])
    assert torch.equal(agent.act_generator.get_state(), states[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_optimize_of_a_cloned_policy_stores_weights_in_its_precision(dtype: torch.dtype) -> None:
    agent = Dreamer(tiny(), EnvSpec(DICT, MULTI_DISCRETE), seed=0, dtype=dtype)
    optimize(agent)
    policy = optimize(agent.recurrent_policy.clone())
    convs = [layer for layer in policy.modules() if isinstance(layer, nn.Conv2d)]
    linears = [layer for layer in policy.modules() if isinstance(layer, nn.Linear)]
    assert {layer.weight.dtype for layer in (*convs, *linears)} == {dtype}
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in convs)
    assert {layer.bias.dtype for layer in (*convs, *linears)} == {torch.float32}
    agent.train_step(tensors(random_steps(agent.spec, (4, 2))))
    policy.load_weights(agent.recurrent_policy)
    obs = {key: value[0] for key, value in tensors(random_steps(agent.spec, (1, 3))).items()}
    expected, actual = (
        p(obs, None, "mode", torch.Generator().manual_seed(0)) for p in (agent.recurrent_policy, policy)
    )
    torch.testing.assert_close(actual.latent.deter, expected.latent.deter, rtol=1e-2, atol=1e-3)
    assert torch.equal(actual.action, expected.action)


def test_optimize_of_an_agents_own_policy_keeps_its_weights() -> None:
    agent = Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE), seed=0, dtype=torch.bfloat16)
    optimize(agent.recurrent_policy)
    assert {parameter.dtype for parameter in agent.parameters()} == {torch.float32}


# --- plain against optimised agents ----------------------------------------------------------------------------------

SPACES = {
    "image": ATARI_IMAGE,
    "colour": {"image": ArraySpec((64, 64, 3), "uint8")},
    "vector": {"position": ArraySpec((5,), "float32")},
    "both": {"image": ArraySpec((64, 64, 1), "uint8"), "position": ArraySpec((5,), "float32")},
}
# Layer norms over one or two entries amplify rounding errors without limit.
CONFIGS = st.fixed_dictionaries(
    {
        "world_model__rssm__deter": st.integers(3, 20),
        "world_model__rssm__hidden": st.integers(3, 20),
        "world_model__rssm__stoch": st.integers(1, 5),
        "world_model__rssm__classes": st.integers(2, 6),
        "world_model__rssm__latents": st.sampled_from(["categorical", "categorical", "gaussian", "binary"]),
        "world_model__rssm__layer_norm": st.booleans(),
        "world_model__rssm__gru_layer_norm": st.sampled_from([True, True, False]),
        "world_model__encoder__layer_norm": st.booleans(),
        "world_model__decoder__layer_norm": st.booleans(),
        "world_model__encoder__cnn_depth": st.sampled_from([3, 4, 8]),
        "world_model__decoder__cnn_depth": st.sampled_from([3, 4, 8]),
        "world_model__encoder__cnn_activation": st.sampled_from(["elu", "relu"]),
        "world_model__normalize_vectors": st.booleans(),
        "world_model__predict_discount": st.booleans(),
        "world_model__reward_head__layers": st.integers(0, 2),
        "world_model__kl__objective": st.sampled_from(["balanced", "split"]),
        "behavior__actor__layers": st.integers(0, 2),
        "behavior__actor__units": st.integers(3, 20),
        "behavior__actor__layer_norm": st.booleans(),
        "behavior__actor__gradient": st.sampled_from(["auto", "both", "reinforce"]),
        "behavior__critic__layers": st.integers(0, 2),
        "behavior__critic__layer_norm": st.booleans(),
        "behavior__critic__slow_target": st.booleans(),
        "behavior__long_term_entropy": st.booleans(),
        "behavior__horizon": st.integers(2, 5),
    }
)


@settings(max_examples=25)
@given(
    config=CONFIGS,
    space=st.sampled_from(sorted(SPACES)),
    action=st.sampled_from([DISCRETE, MULTI_DISCRETE, CONTINUOUS]),
    steps=st.integers(1, 4),
    sample=st.booleans(),
)
def test_optimised_agent_trains_as_the_plain_one(
    config: dict[str, Any], space: str, action: ActionSpec, steps: int, sample: bool
) -> None:
    plain = Dreamer(tiny(**config), EnvSpec(SPACES[space], action), seed=0)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    fast = Dreamer(plain.config, plain.spec, seed=0)
    fast.load_state_dict(plain.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimize(fast)
    gradients = [_record_gradients(agent) for agent in (plain, fast)]
    for update in range(2):
        batch = tensors(random_steps(plain.spec, (steps, 3), seed=update))
        expected, actual = (agent.train_step(batch, sample=sample) for agent in (plain, fast))
        for name, value in expected.items():
            _close(actual[name], value, name)
        for one, other in zip(*gradients, strict=True):
            _close(other, one, "gradient")
        for one, other in zip(plain.carry or (), fast.carry or (), strict=True):
            _close(other, one, "carry")
        # The next update begins with equal weights: Adam's first steps follow the signs of gradients.
        fast.load_state_dict(plain.state_dict())


def _record_gradients(agent: Dreamer) -> list[Tensor]:
    """Return a list that receives all gradients of an update, before they are clipped."""
    recorded: list[Tensor] = []
    for optimizer in (agent.model_optimizer, agent.actor_optimizer, agent.critic_optimizer):
        apply = optimizer.apply

        def record(gradients: list[Tensor], *inputs: Any, apply: Any = apply) -> None:
            recorded.extend(gradient.clone() for gradient in gradients)
            apply(gradients, *inputs)

        optimizer.apply = record  # type: ignore[method-assign]
    return recorded


def _close(actual: Tensor, expected: Tensor, name: str) -> None:
    scale = max(float(expected.abs().max()), 1.0)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4 * scale, msg=lambda text: f"{name}: {text}")


def test_optimised_agent_can_be_copied() -> None:
    agent = optimize(make_agent())
    assert fast_classes(deepcopy(agent)) == fast_classes(agent)

"""Filtering and imagination of the fast path against the model's own loops, in both precisions."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from reverie import presets
from reverie.agent import Dreamer
from reverie.behavior import rollouts
from reverie.behavior.imagination import imagine_states
from reverie.fast import kernels
from reverie.fast.features import Features
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from reverie.world_model import State, filtering
from tests.helpers.precisions import both_precisions, close, in_precision

pytestmark = pytest.mark.skipif(kernels.load() is None, reason="no C compiler here")

STEPS, BATCH, EMBED = 5, 6, 48


def make_agent(sizes: tuple[int, ...]) -> Dreamer:
    spec = EnvSpec({"observation": ArraySpec((3,), "float32")}, ActionSpec("discrete", sizes))
    agent = Dreamer(presets.preset("debug"), spec, seed=1)
    with torch.no_grad():
        for name, parameter in agent.named_parameters():  # biases and norms begin at 0 and 1, where mistakes hide
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return agent


@pytest.fixture(params=[(4,), (3, 2)], ids=["one action", "two actions"])
def agent(request: pytest.FixtureRequest) -> Iterator[Dreamer]:
    yield make_agent(request.param)


def plain(function: str, module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, function, lambda *_: False)


def filter_inputs(agent: Dreamer) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    is_first = torch.rand((STEPS, BATCH), generator=generator) < 0.3
    return {
        "embed": torch.randn((STEPS, BATCH, agent.world_model.encoder.output_size), generator=generator),
        "action": torch.randn((STEPS, BATCH, agent.spec.action.size), generator=generator),
        "is_first": is_first,
    }


@both_precisions
@pytest.mark.parametrize("carried", [False, True], ids=["from zero", "carried on"])
def test_filtering(agent: Dreamer, dtype: torch.dtype, carried: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rssm, inputs = agent.world_model.rssm, filter_inputs(agent)
    generator = torch.Generator().manual_seed(4)
    noise = rssm.latents.draw_noise((STEPS, BATCH), generator)
    before = None
    if carried:
        with torch.no_grad():
            before = rssm.observe(**inputs, noise=noise)[0].map(lambda part: part[-1])
    inputs["embed"].requires_grad_()
    leaves = [inputs["embed"], *rssm.parameters()]

    def run() -> tuple[State, Tensor, tuple[Tensor, ...]]:
        with in_precision(dtype):
            posterior, prior = rssm.observe(**inputs, state=before, noise=noise)
        parts = [posterior.deter, posterior.stoch, posterior.stats, prior]
        directions = torch.Generator().manual_seed(5)
        loss = sum((part.float() * torch.randn(part.shape, generator=directions)).sum() for part in parts)
        assert isinstance(loss, Tensor)
        return posterior, prior, torch.autograd.grad(loss, leaves)

    fast_posterior, fast_prior, fast_gradients = run()
    assert "_Observe" in fast_posterior.deter.grad_fn.name()
    plain("serves", filtering, monkeypatch)
    posterior, prior, gradients = run()
    assert torch.equal(fast_posterior.stoch, posterior.stoch), "the same noise draws the same states"
    close(fast_posterior.deter, posterior.deter, dtype)
    close(fast_posterior.stats, posterior.stats, dtype)
    close(fast_prior, prior, dtype)
    for ours, expected in zip(fast_gradients, gradients, strict=True):
        close(ours, expected, dtype)


@both_precisions
@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "modes"])
def test_rollouts(agent: Dreamer, dtype: torch.dtype, sampled: bool) -> None:
    rssm, actor, horizon = agent.world_model.rssm, agent.behavior.actor, 4
    inputs = filter_inputs(agent)
    noise = agent.behavior.draw_noise(agent.world_model, STEPS * BATCH, agent.generator) if sampled else None
    with torch.no_grad(), in_precision(dtype):
        draws = rssm.latents.draw_noise((STEPS, BATCH), agent.generator)
        start = rssm.observe(**inputs, noise=draws)[0].map(lambda part: part.flatten(0, 1))
        assert rollouts.serve(rssm, actor, start.deter)
        feat, action, hidden = rollouts.imagine(rssm, actor, start, horizon, *(noise or (None, None)))
        state, expected = imagine_states(agent.world_model, actor, start, horizon, noise)
    assert isinstance(feat, Features) and feat.shape == state.feat.shape
    stoch = feat.dense()[..., : rssm.latents.size]
    same = (torch.cat([action, stoch], -1) == torch.cat([expected, state.stoch], -1)).all(-1).all(0)
    # Rounded probabilities rarely move a draw to the next class; from there on a rollout goes another way.
    assert same.all() if dtype == torch.float32 else same.float().mean() > 0.8
    close(feat.deter[:, same], state.deter[:, same], dtype)
    assert [len(layer) for layer in hidden] == [horizon] * actor.config.layers
    with in_precision(dtype):
        known, again = actor(feat[:-2], [layer[:-1] for layer in hidden]), actor(feat[:-2])
    assert torch.equal(known.logits, again.logits), "what was kept is what the actor computes"
    direction = torch.randn(again.logits.shape)
    ours, plain = (torch.autograd.grad((it.logits * direction).sum(), actor.parameters()) for it in (known, again))
    assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


def test_what_the_fast_paths_leave_to_the_plain_code() -> None:
    """Gradients through a rollout, and networks of other kinds."""
    agent = make_agent((4,))
    rssm, actor = agent.world_model.rssm, agent.behavior.actor
    like = torch.zeros(2, 3)
    assert not rollouts.serve(rssm, actor, like), "gradients are on"
    with torch.no_grad():
        assert rollouts.serve(rssm, actor, like)
        assert not rollouts.serve(rssm, actor, like.double())
    zero = rssm.initial((2,))
    assert filtering.serves(rssm, like, like, zero)
    assert not filtering.serves(rssm, like, like.clone().requires_grad_(), zero)

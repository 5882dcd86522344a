"""Filtering and imagination against the plain modules, in both precisions."""

import pytest
import torch
from torch import Tensor

from reverie.config import preset
from reverie.dreamer import Dreamer, State
from reverie.dreamer.actor_critic import ActorCritic
from reverie.dreamer.imagination import Trajectory
from reverie.dreamer.rssm import RSSM
from reverie.kernels import library, optimize
from reverie.kernels.features import SparseFeatures
from reverie.kernels.filtering import FastRSSM
from reverie.kernels.imagination import FastActorCritic
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from tests.helpers.precisions import both_precisions, close, in_precision

pytestmark = pytest.mark.skipif(library.load() is None, reason="no C compiler here")

STEPS, BATCH = 5, 6


def make_agent(sizes: tuple[int, ...]) -> Dreamer:
    """Return a plain agent whose biases and norms are not 0 and 1, where errors are not visible."""
    spec = EnvSpec({"observation": ArraySpec((3,), "float32")}, ActionSpec("discrete", sizes))
    agent = Dreamer(preset("debug"), spec, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in agent.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return agent


@pytest.fixture(params=[(4,), (3, 2)], ids=["one action", "two actions"])
def agent(request: pytest.FixtureRequest) -> Dreamer:
    return make_agent(request.param)


def sequences(agent: Dreamer, steps: int = STEPS) -> dict[str, Tensor]:
    """Return random embeddings, actions and starts of episodes."""
    generator = torch.Generator().manual_seed(3)
    return {
        "embed": torch.randn((steps, BATCH, agent.world_model.encoder.output_size), generator=generator),
        "action": torch.randn((steps, BATCH, agent.spec.action.size), generator=generator),
        "is_first": torch.rand((steps, BATCH), generator=generator) < 0.3,
    }


@both_precisions
@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "modes"])
@pytest.mark.parametrize("carried", [False, True], ids=["from zero", "carried"])
def test_fast_rssm_observe_matches_rssm(agent: Dreamer, dtype: torch.dtype, sampled: bool, carried: bool) -> None:
    rssm, inputs = agent.world_model.rssm, sequences(agent)
    noise = rssm.latents.draw_noise((STEPS, BATCH), torch.Generator().manual_seed(4)) if sampled else None
    state = None
    if carried:
        with torch.no_grad():
            state = rssm.observe(**inputs, noise=noise).map(lambda part: part[-1])
    inputs["embed"].requires_grad_()
    unused = [*rssm.prior_layer.parameters(), *rssm.prior_head.parameters()]
    leaves = [inputs["embed"], *(p for p in rssm.parameters() if not any(p is other for other in unused))]

    def run(kind: type[RSSM]) -> tuple[State, tuple[Tensor, ...]]:
        rssm.__class__ = kind
        with in_precision(dtype):
            posterior = rssm.observe(**inputs, state=state, noise=noise)
        directions = torch.Generator().manual_seed(5)
        loss = sum((part.float() * torch.randn(part.shape, generator=directions)).sum() for part in posterior)
        assert isinstance(loss, Tensor)
        return posterior, torch.autograd.grad(loss, leaves)

    fast, fast_gradients = run(FastRSSM)
    assert "_Observe" in fast.deter.grad_fn.name()
    plain, gradients = run(RSSM)
    assert torch.equal(fast.stoch, plain.stoch), "the same noise draws the same states"
    close(fast.deter, plain.deter, dtype)
    close(fast.stats, plain.stats, dtype)
    for one, other in zip(fast_gradients, gradients, strict=True):
        close(one, other, dtype)


def test_fast_rssm_observe_of_one_step_without_gradient_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent((4,))
    rssm, calls = agent.world_model.rssm, []
    rssm.__class__ = FastRSSM
    plain = RSSM.observe_step
    monkeypatch.setattr(RSSM, "observe_step", lambda *inputs: calls.append(1) or plain(*inputs))
    with torch.no_grad():
        rssm.observe(**sequences(agent, steps=1))
        assert len(calls) == 1
        rssm.observe(**sequences(agent))
        assert len(calls) == 1


def test_fast_rssm_observe_passes_gradients_to_actions_and_state() -> None:
    agent = make_agent((4,))
    rssm, inputs = agent.world_model.rssm, sequences(agent)
    rssm.__class__ = FastRSSM
    inputs["action"].requires_grad_()
    rssm.observe(**inputs).stats.sum().backward()
    assert inputs["action"].grad is not None and inputs["action"].grad.any()


@both_precisions
@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "modes"])
def test_fast_imagine_matches_imagine(agent: Dreamer, dtype: torch.dtype, sampled: bool) -> None:
    model, actor_critic, number = agent.world_model, agent.actor_critic, STEPS * BATCH
    noise = actor_critic.draw_noise(model, number, agent.generator) if sampled else None

    def run(kind: type[ActorCritic]) -> Trajectory:
        actor_critic.__class__ = kind
        with torch.no_grad(), in_precision(dtype):
            draws = model.rssm.latents.draw_noise((STEPS, BATCH), torch.Generator().manual_seed(4))
            start = model.rssm.observe(**sequences(agent), noise=draws).map(lambda part: part.flatten(0, 1))
            return actor_critic.imagine(model, start, torch.arange(number) % 3 == 0, noise)

    plain, fast = run(ActorCritic), run(FastActorCritic)
    assert isinstance(fast.feat, SparseFeatures)
    width, feat = model.rssm.latents.size, fast.feat.dense()
    same = (
        (torch.cat([fast.action, feat[..., :width]], -1) == torch.cat([plain.action, plain.feat[..., :width]], -1))
        .all(-1)
        .all(0)
    )
    # Rounded probabilities move few draws to the next class; from there on the rollouts differ.
    assert same.all() if dtype == torch.float32 else same.float().mean() > 0.8
    close(feat[:, same], plain.feat[:, same], dtype)
    for one, other in zip(fast[1:], plain[1:], strict=True):
        close(one[:, same], other[:, same], dtype)


@both_precisions
def test_actor_on_known_hidden_layers_is_identical(agent: Dreamer, dtype: torch.dtype) -> None:
    """The layers that the rollout computed are those that the actor computes, gradients included."""

    optimize(agent)
    model, actor = agent.world_model, agent.actor_critic.actor
    with torch.no_grad(), in_precision(dtype):
        start = model.rssm.observe(**sequences(agent)).map(lambda part: part.flatten(0, 1))
        feat = agent.actor_critic.imagine(model, start, torch.zeros(STEPS * BATCH, dtype=torch.bool), None).feat
    assert isinstance(feat, SparseFeatures) and feat[:-1].hidden_layers(actor.body) is not None
    unknown = SparseFeatures(feat.ones, feat.deter, feat.one_hot_size)
    assert agent.config.behavior.actor.layers == len(feat[:-1].hidden_layers(actor.body) or [])
    results = []
    for x in (feat, unknown):
        with in_precision(dtype):
            logits = actor(x[:-2].detach()).logits
        results.append([logits, *torch.autograd.grad(logits.square().sum(), actor.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_fast_imagine_with_gradients_is_plain() -> None:
    agent = make_agent((4,))
    agent.actor_critic.__class__ = FastActorCritic
    start = agent.world_model.rssm.initial((2,))
    trajectory = agent.actor_critic.imagine(agent.world_model, start, torch.zeros(2, dtype=torch.bool), None)
    assert not isinstance(trajectory.feat, SparseFeatures)
    assert trajectory.feat.requires_grad

"""RSSM: the equations of its parts, resets at episode starts, sequences against single steps."""

import pytest
import torch
from torch import Tensor

from reverie.config import RSSMConfig
from reverie.dreamer.layers import initialize
from reverie.dreamer.rssm import RSSM, GRUCell, State, stack_states

EMBED, ACTION, BATCH = 7, 3, 4
KINDS = {
    "categorical": RSSMConfig(stoch=3, classes=5, deter=11, hidden=9),
    "gaussian": RSSMConfig(stoch=6, deter=11, hidden=9, latents="gaussian", layer_norm=True),
    "binary": RSSMConfig(stoch=3, classes=5, deter=11, hidden=9, latents="binary", gru_layer_norm=False),
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=KINDS)
def rssm(request: pytest.FixtureRequest) -> RSSM:
    rssm = RSSM(KINDS[request.param], EMBED, ACTION)
    initialize(rssm, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in rssm.parameters():  # biases start at zero, where mistakes do not show
            parameter.add_(0.2 * draw(*parameter.shape, seed=9))
    return rssm


def random_state(rssm: RSSM) -> State:
    return rssm.initial((BATCH,)).map(lambda part: draw(*part.shape))


def inputs(steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return embeddings, actions and episode starts."""
    is_first = torch.rand((steps, BATCH), generator=torch.Generator().manual_seed(3)) < 0.3
    return draw(steps, BATCH, EMBED, seed=1), draw(steps, BATCH, ACTION, seed=2), is_first


@pytest.mark.parametrize("layer_norm", [False, True])
def test_gru_step_is_its_equation(layer_norm: bool) -> None:
    cell = GRUCell(5, 4, layer_norm)
    x, h = draw(6, 5), draw(6, 4, seed=1)
    gates = torch.cat([x, h], -1) @ cell.linear.weight.T + cell.linear.bias
    if layer_norm:
        centred = gates - gates.mean(-1, keepdim=True)
        gates = centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    reset, candidate, update = gates[:, :4], gates[:, 4:8], gates[:, 8:]
    update = 1 / (1 + torch.exp(1 - update))
    expected = update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * h
    torch.testing.assert_close(cell(x, h), expected)


def test_initial_state_is_zero(rssm: RSSM) -> None:
    state = rssm.initial((2, 3))
    assert not any(part.any() for part in state)
    assert state.feat.shape == (2, 3, rssm.feat_size)


def test_feat_is_the_sample_then_the_deterministic_state(rssm: RSSM) -> None:
    state = random_state(rssm)
    assert torch.equal(state.feat[:, : rssm.latents.size], state.stoch)
    assert torch.equal(state.feat[:, rssm.latents.size :], state.deter)


def test_observe_step_where_an_episode_starts_forgets_state_and_action(rssm: RSSM) -> None:
    """The transition is applied to zeros; other rows are unaffected."""
    embed, action, _ = (part[0] for part in inputs(1))
    is_first = torch.tensor([True, False, True, False])
    found = rssm.observe_step(random_state(rssm), action, embed, is_first, None)
    fresh = rssm.observe_step(rssm.initial((BATCH,)), torch.zeros_like(action), embed, ~is_first, None)
    carried = rssm.observe_step(random_state(rssm), action, embed, torch.zeros(BATCH, dtype=torch.bool), None)
    for part, new, old in zip(found, fresh, carried, strict=True):
        torch.testing.assert_close(part[is_first], new[is_first])
        torch.testing.assert_close(part[~is_first], old[~is_first])
    assert found.deter[is_first].any()


def test_observe_sequence_is_observe_step_repeated(rssm: RSSM) -> None:
    embed, action, is_first = inputs(6)
    noise = rssm.latents.draw_noise((6, BATCH), torch.Generator().manual_seed(0))
    state, states = random_state(rssm), []
    found = rssm.observe(embed, action, is_first, state, noise)
    for t in range(6):
        state = rssm.observe_step(state, action[t], embed[t], is_first[t], noise[t])
        states.append(state)
    for part, expected in zip(found, stack_states(states), strict=True):
        torch.testing.assert_close(part, expected)


def test_observe_step_is_the_posterior_of_the_recurrent_state(rssm: RSSM) -> None:
    embed, action, _ = (part[0] for part in inputs(1))
    state = random_state(rssm)
    found = rssm.observe_step(state, action, embed, torch.zeros(BATCH, dtype=torch.bool), None)
    deter = rssm.recur(state, action)
    torch.testing.assert_close(found.deter, deter)
    torch.testing.assert_close(found.stats, rssm.posterior(deter, embed))
    torch.testing.assert_close(found.stoch, rssm.latents.sample(found.stats, None))


def test_imagine_sequence_is_imagine_step_repeated(rssm: RSSM) -> None:
    _, action, _ = inputs(6)
    noise = rssm.latents.draw_noise((6, BATCH), torch.Generator().manual_seed(0))
    state, states = random_state(rssm), []
    found = rssm.imagine(action, state, noise)
    for t in range(6):
        state = rssm.imagine_step(state, action[t], noise[t])
        states.append(state)
        torch.testing.assert_close(state.stats, rssm.prior(state.deter))
    for part, expected in zip(found, stack_states(states), strict=True):
        torch.testing.assert_close(part, expected)


def test_observe_without_noise_takes_modes_and_with_noise_differs(rssm: RSSM) -> None:
    embed, action, is_first = inputs(6)
    first, again = (rssm.observe(embed, action, is_first) for _ in range(2))
    assert torch.equal(first.stoch, again.stoch)
    noise = rssm.latents.draw_noise((6, BATCH), torch.Generator().manual_seed(0))
    assert not torch.equal(rssm.observe(embed, action, is_first, None, noise).stoch, first.stoch)

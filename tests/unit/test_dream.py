"""A dream, stepped by hand, against the world model's own rollouts."""

from typing import Any

import numpy as np
import pytest
import torch

from reverie.dream import Dream, DreamState, latent_classes
from reverie.dreamer import Dreamer
from reverie.specs import ActionSpec, ArraySpec, EnvSpec, Step
from tests.helpers.agents import CONTINUOUS, DISCRETE, random_steps, tiny

SPEC = {"image": ArraySpec((64, 64, 1), "uint8"), "position": ArraySpec((3,), "float32")}


def build(action: ActionSpec = DISCRETE, **settings: Any) -> Dreamer:
    kinds = {f"world_model__{name}__kinds": "all" for name in ("encoder", "decoder")}
    return Dreamer(tiny(**kinds, **settings), EnvSpec(SPEC, action), seed=1)


def episode(agent: Dreamer, length: int = 6) -> Step:
    steps = random_steps(agent.spec, (length, 1))
    rows = {key: np.asarray(value)[:, 0] for key, value in steps.items()}
    rows["is_first"] = np.arange(length) == 0
    return rows


def walk(dream: Dream, start: DreamState, actions: Any) -> list[DreamState]:
    moments = [start]
    for action in actions:
        moments.append(dream.step(moments[-1], action))
    return moments


@pytest.mark.parametrize("latents", ["categorical", "gaussian", "binary"])
@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_modes_are_those_of_an_open_loop_prediction(latents: str, action: ActionSpec) -> None:
    agent = build(action, world_model__rssm__latents=latents)
    rows, model = episode(agent), agent.world_model
    dream = Dream(agent, deterministic=True)
    found = walk(dream, dream.begin({key: value[:3] for key, value in rows.items()}), rows["action"][3:])
    sequence = {key: torch.from_numpy(value[:, None]) for key, value in rows.items()}
    posterior = model.infer({key: value[:3] for key, value in sequence.items()}).posterior
    prior = model.rssm.imagine(sequence["action"][3:], posterior.map(lambda part: part[-1]))
    for state, feat in zip(found, [posterior.feat[-1], *prior.feat], strict=True):
        assert torch.equal(state.latent.feat, feat)
        assert state.reward == pytest.approx(model.reward(feat).item())
        assert state.value == pytest.approx(agent.actor_critic.critic(feat).item())
        expected = ((model.decoder.images(feat)["image"] + 0.5).clamp(0, 1) * 255).round()[0]
        assert np.array_equal(state.observations["image"], expected.detach().numpy())
        assert state.observations["position"] == pytest.approx(model.decoder.vectors(feat)["position"][0].tolist())


def test_the_same_seed_and_actions_give_the_same_dream_also_after_a_branch() -> None:
    agent = build()
    rows = episode(agent)
    start = Dream(agent, seed=3).begin(rows)
    first = walk(Dream(agent, seed=3), start, rows["action"])
    dream = Dream(agent, seed=3)
    walk(dream, first[2], rows["action"][::-1])  # a branch changes nothing
    again = walk(dream, start, rows["action"])
    other = walk(Dream(agent, seed=4), start, rows["action"])
    assert all(torch.equal(a.latent.stoch, b.latent.stoch) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.latent.stoch, b.latent.stoch) for a, b in zip(first, other, strict=True))
    assert [state.depth for state in first] == list(range(7))


def test_observation_is_filtered_and_its_surprise_is_the_kl() -> None:
    agent = build()
    rows, model = episode(agent), agent.world_model
    dream = Dream(agent, deterministic=True)
    start = dream.begin({key: value[:5] for key, value in rows.items()})
    found = dream.observe(start, rows["action"][5], {key: value[5] for key, value in rows.items()})
    whole = dream.begin(rows)
    assert torch.allclose(found.state.latent.feat, whole.latent.feat)
    assert found.state.depth == 1
    prior, posterior = model.rssm.prior(whole.latent.deter).softmax(-1), whole.latent.stats.softmax(-1)
    assert found.surprise == pytest.approx((posterior * (posterior / prior).log()).sum().item(), rel=1e-4)


def test_low_temperature_takes_likely_states_and_high_temperature_others() -> None:
    agent = build()
    rows = episode(agent, 40)
    modes = walk(Dream(agent, deterministic=True), Dream(agent, deterministic=True).begin(rows), rows["action"])

    def share(temperature: float) -> float:
        dream = Dream(agent, seed=1, temperature=temperature)
        same = []
        for state, action in zip(modes[:-1], rows["action"], strict=True):
            drawn = latent_classes(dream.step(state, action).latent, agent)[0]
            most = dream.step(state, action).latent.stats[0].argmax(-1).tolist()
            same.append(np.mean(np.array(drawn) == np.array(most)))
        return float(np.mean(same))

    assert share(0.01) > 0.95
    assert share(0.01) > share(1.0) > share(5.0)


def test_actor_acts_as_its_distribution_says() -> None:
    agent = build()
    state = Dream(agent).begin(episode(agent))
    assert state.policy.shape == (agent.spec.action.size,)
    assert state.policy.sum() == pytest.approx(len(agent.spec.action.sizes))
    best = Dream(agent).act(state)
    assert best.argmax() == state.policy.argmax()
    drawn = {tuple(Dream(agent, seed=seed).act(state, "sample")) for seed in range(50)}
    assert len(drawn) > 1
    assert {tuple(Dream(agent, seed=seed).act(state, "sample", 0.001)) for seed in range(9)} == {tuple(best)}


def test_standardised_vectors_are_shown_in_their_own_units() -> None:
    agent = build(world_model__normalize_vectors=True)
    norm = agent.world_model.preprocess.vector_norm
    assert norm is not None
    norm.mean.copy_(torch.tensor([5.0, -2.0, 0.0]))
    norm.variance.copy_(torch.tensor([4.0, 9.0, 1.0]))
    value = torch.tensor([[6.0, 1.0, 0.5]])
    assert torch.allclose(norm.invert("position", norm({"position": value})["position"]), value)

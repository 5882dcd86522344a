"""The plain train step that reverie's speed is compared with computes what reverie computes."""

import pytest
import torch
from torch import Tensor

from benchmarks.naive import PRESETS, Naive, Sizes, draw, random_batch
from reverie.agents import num_parameters
from reverie.bench.examples import example_spec
from reverie.config import preset
from reverie.dreamer import Dreamer

SIZES = Sizes(depth=2, deter=12, units=10, layers=2, variables=3, classes=4, horizon=4)
EPS = 1e-12
"""Of Adam: so small that it does not matter whether it is added before or after the bias correction."""
LOSSES = {
    "model": "model/loss",
    "image": "model/image_loss",
    "reward": "model/reward_loss",
    "discount": "model/discount_loss",
    "kl": "model/kl_loss",
    "actor": "actor/loss",
    "critic": "critic/loss",
}


def dreamer() -> Dreamer:
    """Reverie's agent of the sizes above."""
    mlps = ("world_model.reward_head", "world_model.discount_head", "behavior.actor", "behavior.critic")
    settings = {f"{mlp}.{field}": getattr(SIZES, field) for mlp in mlps for field in ("units", "layers")}
    settings |= {f"world_model.{cnn}.cnn_depth": SIZES.depth for cnn in ("encoder", "decoder")}
    settings |= {f"world_model.rssm.{field}": SIZES.deter for field in ("deter", "hidden")}
    settings |= {"world_model.rssm.stoch": SIZES.variables, "world_model.rssm.classes": SIZES.classes}
    settings |= {f"{part}.optimizer.eps": EPS for part in ("world_model", "behavior.actor", "behavior.critic")}
    settings |= {"behavior.horizon": SIZES.horizon, "training.device": "cpu", "training.precision": "fp32"}
    return Dreamer(preset("atari").override(**settings), example_spec("atari"), seed=0)


def parameters(agent: Dreamer | Naive) -> list[Tensor]:
    """Trained weights, then the target critic's; both agents list them in the same order."""
    if isinstance(agent, Naive):
        modules = (agent.model, agent.actor, agent.critic, agent.target_critic)
    else:
        parts = agent.actor_critic
        modules = (agent.world_model, parts.actor, parts.critic, parts.target_critic)
    return [parameter for module in modules for parameter in module.parameters()]


@torch.no_grad()
def copy_weights(source: Dreamer, target: Naive) -> None:
    for ours, theirs in zip(parameters(source), parameters(target), strict=True):
        theirs.copy_(ours)


def clipped_gradients(agent: Dreamer | Naive) -> list[Tensor]:
    """Of the first update: Adam's first moment is a tenth of them."""
    if isinstance(agent, Dreamer):
        optimizers = (agent.model_optimizer, agent.actor_optimizer, agent.critic_optimizer)
        return [10 * moment for optimizer in optimizers for moment in optimizer.exp_avg]
    return [
        10 * optimizer.state[parameter]["exp_avg"]
        for module, optimizer in agent.optimizers.items()
        for parameter in module.parameters()
    ]


def test_naive_train_step_has_the_losses_gradients_and_weights_of_dreamer() -> None:
    ours, naive = dreamer(), Naive(SIZES, EPS)
    with torch.no_grad():
        for parameter in parameters(ours):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    copy_weights(ours, naive)
    batch = random_batch(6, 3, SIZES.actions)
    batch["is_terminal"][2] = True
    batch["is_first"][3, 1] = True
    for update in range(3):
        # Modes in place of draws, which come from different generators.
        expected = ours.train_step(batch, sample=False)
        losses = naive.train_step(batch, sample=False)
        for name, metric in LOSSES.items():
            assert losses[name] == pytest.approx(expected[metric].item(), rel=1e-4, abs=1e-5), (update, name)
        if update == 0:
            for ours_part, naive_part in zip(clipped_gradients(ours), clipped_gradients(naive), strict=True):
                torch.testing.assert_close(naive_part, ours_part, rtol=1e-3, atol=1e-6)
        for ours_part, naive_part in zip(parameters(ours), parameters(naive), strict=True):
            torch.testing.assert_close(naive_part, ours_part, rtol=1e-3, atol=1e-5)


def test_naive_draws_have_the_frequencies_of_their_logits() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0], [3.0, 0.0, 0.0, 0.0]])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = draw(logits.expand(20_000, 2, 4), sample=True)
    assert torch.equal(draws.sort(-1).values, torch.tensor([0.0, 0.0, 0.0, 1.0]).expand_as(draws))
    torch.testing.assert_close(draws.mean(0), logits.softmax(-1), rtol=0.0, atol=0.02)


@pytest.mark.parametrize("name", PRESETS)
def test_naive_sizes_are_those_of_the_presets(name: str) -> None:
    with torch.device("meta"):
        count = Naive(PRESETS[name]).parameters()
    assert count == num_parameters(Dreamer(preset(name), example_spec(name), seed=0))

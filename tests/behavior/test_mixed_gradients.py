"""Reinforce and dynamics gradients together, for continuous actions (SPEC 29), against each of them alone."""

import pytest
import torch
from torch import Tensor

from reverie.agent import Dreamer
from reverie.specs import ActionSpec, EnvSpec
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, DISCRETE, random_steps, tiny


def actor_gradient(gradient: str, spec: ActionSpec = CONTINUOUS, narrow: bool = False, **actor: object) -> Tensor:
    """Gradient of the actor's loss on one batch, flattened, with the same weights and noise each time.

    With `narrow`, that of the layer of the means alone, where standard deviations are near their least, 0.1.
    """
    settings = {"gradient": gradient, "entropy": 0.0, **actor}
    config = tiny(**{f"behavior__actor__{name}": value for name, value in settings.items()})
    agent = Dreamer(config, EnvSpec(ATARI_IMAGE, spec), seed=2)
    model, behavior = agent.world_model, agent.behavior
    if narrow:
        torch.nn.init.constant_(behavior.actor.std_head.bias, -12.0)
    steps = random_steps(agent.spec, (3, 4))
    batch = model.preprocess({key: torch.from_numpy(value) for key, value in steps.items()})
    start = model.loss(batch, None, None).posterior.map(lambda part: part.detach().flatten(0, 1))
    terminal = batch["is_terminal"].flatten()
    noise = behavior.draw_noise(model, len(terminal), torch.Generator().manual_seed(0))
    loss = behavior.loss(model, start, terminal, noise).actor
    learned = behavior.actor.head.parameters() if narrow else behavior.actor.parameters()
    return torch.cat([value.flatten() for value in torch.autograd.grad(loss, list(learned))])


def test_both_gradients_detached_are_the_weighted_sum_of_each_alone() -> None:
    reinforce, dynamics = actor_gradient("reinforce"), actor_gradient("dynamics")
    both = actor_gradient("both", dynamics_weight=0.3, reinforce_weight=0.9)
    torch.testing.assert_close(both, 0.9 * reinforce + 0.3 * dynamics, rtol=1e-3, atol=1e-6)


def test_both_gradients_as_released_cancel_reinforce() -> None:
    """The sample moves with the mean, so that its density does not change: the reason for the default."""
    weights = {"dynamics_weight": 1e-9, "reinforce_weight": 1.0}
    reinforce, released, detached = (
        actor_gradient("reinforce", narrow=True),
        actor_gradient("both", narrow=True, reinforce_sample="release", **weights),
        actor_gradient("both", narrow=True, **weights),
    )
    torch.testing.assert_close(detached, reinforce, rtol=1e-4, atol=1e-7)
    assert released.norm() < 0.01 * reinforce.norm()


@pytest.mark.parametrize("form", ["detached", "release"])
@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE])
def test_both_gradients_change_smoothly_where_the_schedule_ends(form: str, spec: ActionSpec) -> None:
    last, ended = (
        actor_gradient("both", spec, dynamics_weight=weight, reinforce_weight=0.9, reinforce_sample=form)
        for weight in (1e-9, 0.0)
    )
    torch.testing.assert_close(last, ended, rtol=1e-4, atol=1e-7)

"""Plain and optimised agents of every preset and variant: the same update and the same decisions.

In float32 every result is compared by itself. In bfloat16 the results of an update are compared in norm: an optimised
agent may differ from the plain one by as much as rounding to bfloat16 changes the plain one.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from reverie.config import PRESETS, VARIANTS, preset, with_variant
from reverie.dreamer import Dreamer
from tests.helpers.agents import random_steps, tensors
from tests.helpers.optimised import needs_kernels, optimised
from tests.helpers.small_presets import STRONG, shrunk, spec_of
from tests.parity.compare import DEVICE, FORWARD, GRADIENT, close

pytestmark = needs_kernels
Results = dict[str, np.ndarray[Any, Any]]
CASES = [(name, "full") for name in PRESETS]
CASES += [(name, variant) for name in ("atari", "dmc-vision") for variant in VARIANTS if variant != "full"]
ROUNDING = 2.0
"""Largest error of an optimised agent in bfloat16, as a multiple of the plain one's."""
SEPARATION = 3.0
"""Largest bias of a class, against which the rest of the logits is small."""


@torch.no_grad()
def randomize(agent: Dreamer) -> None:
    """Add noise to biases and layer norms: they start at 0 and 1, where mistakes do not show."""
    for number, parameter in enumerate(agent.parameters()):
        if parameter.ndim == 1:
            generator = torch.Generator().manual_seed(number)
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(DEVICE))


@torch.no_grad()
def strengthen(agent: Dreamer) -> None:
    """Let the KL exceed the free nats of every preset."""
    for head in (agent.world_model.rssm.prior_head, agent.world_model.rssm.posterior_head):
        head.weight.mul_(STRONG)


@torch.no_grad()
def separate(agent: Dreamer) -> None:
    """Give each class, bit and action another bias, so that rounding changes no mode; the prior's are not q's."""
    generator = torch.Generator().manual_seed(0)
    rssm, actor = agent.world_model.rssm, agent.actor_critic.actor
    is_binary = agent.config.world_model.rssm.latents == "binary"
    for head in (rssm.prior_head, rssm.posterior_head):
        for row in head.bias.view(rssm.latents.stats_shape):
            values = torch.linspace(-1, 1, len(row))
            values = torch.where(values < 0, -1.0, 1.0) if is_binary else values
            row.copy_(SEPARATION * values[torch.randperm(len(row), generator=generator)])
    if agent.spec.action.kind == "discrete":
        for part in actor.head.bias.split(agent.spec.action.sizes):
            part.copy_(torch.linspace(-1, 1, len(part))[torch.randperm(len(part), generator=generator)])


@cache
def results(name: str, variant: str, dtype: torch.dtype, sample: bool, is_optimised: bool) -> Results:
    """Return the results of two updates and two decisions: metrics, gradients, carried state, actions."""
    config, spec = shrunk(with_variant(preset(name), variant)), spec_of(name)
    agent = Dreamer(config, spec, seed=3, device=DEVICE, dtype=dtype)
    randomize(agent)
    (strengthen if sample else separate)(agent)
    if is_optimised:
        optimised(agent)
    found = {}
    agent.agent_steps = 100_000  # within the duration of schedules
    for update in range(2):
        steps = random_steps(spec, (4, 3), seed=update)
        steps["is_first"][2, 1] = True
        metrics = agent.train_step(tensors(steps), sample=sample)
        found |= {f"metrics{update}/{key}": value for key, value in metrics.items()}
    for part in ("model", "actor", "critic"):
        moments = getattr(agent, f"{part}_optimizer").exp_avg
        found |= {f"{part}/{number}": moment for number, moment in enumerate(moments)}
    found |= {f"carry/{key}": value for key, value in agent.carry._asdict().items()}
    state, generator = None, torch.Generator(DEVICE).manual_seed(5) if sample else None
    for mode in ("sample", "mode"):
        observation = tensors(random_steps(spec, (5,), seed=7))
        observation = {key: value.to(DEVICE) for key, value in observation.items() if key != "action"}
        state = agent.recurrent_policy(observation, state, mode, generator)
        found |= {f"{mode}/action": state.action, f"{mode}/stats": state.latent.stats}
    return {key: value.detach().float().cpu().numpy() for key, value in found.items()}


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_optimised_agent_in_float32_computes_the_same(name: str, variant: str) -> None:
    plain, fast = (results(name, variant, torch.float32, True, flag) for flag in (False, True))
    assert plain.keys() == fast.keys()
    for key, value in fast.items():
        is_gradient = key.startswith(("model/", "actor/", "critic/")) or key.endswith("gradient_norm")
        close(value, plain[key], GRADIENT if is_gradient else FORWARD, key)


def joined(found: Results) -> dict[str, np.ndarray[Any, Any]]:
    """Return the results of each kind as one vector, metrics on a logarithmic scale."""
    parts: dict[str, list[np.ndarray[Any, Any]]] = {}
    for key, value in found.items():
        kind = key.split("/")[0]
        is_metric = kind.startswith("metrics")
        parts.setdefault(kind, []).append(np.arcsinh(value.ravel()) if is_metric else value.ravel())
    return {kind: np.concatenate(values).astype(np.float64) for kind, values in parts.items()}


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_optimised_agent_in_bfloat16_rounds_as_the_plain_one(name: str, variant: str) -> None:
    """In modes: rounding may change a sample, and with it everything that follows."""
    exact = joined(results(name, variant, torch.float32, False, False))
    plain, fast = (joined(results(name, variant, torch.bfloat16, False, flag)) for flag in (False, True))
    for kind, value in exact.items():
        norm = np.linalg.norm(value)
        errors = [np.linalg.norm(found[kind] - value) / norm for found in (plain, fast)]
        assert errors[1] <= ROUNDING * errors[0] + 0.02, (kind, errors)
        assert errors[0] < 0.1, (kind, errors)

"""Plain and optimised agents of every preset and variant: the same update and the same decisions.

In float32 every result is compared by itself. In bfloat16 the results of an update are compared in norm: an optimised
agent may differ from the plain one by as much as rounding to bfloat16 changes the plain one.
"""

import importlib.util
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from reverie.config import PRESETS, VARIANTS, preset, with_variant
from reverie.dreamer import Dreamer
from tests.helpers.agents import random_steps, tensors
from tests.helpers.small_presets import STRONG, shrunk, spec_of
from tests.parity.compare import DEVICE, FORWARD, GRADIENT, close

pytestmark = pytest.mark.skipif(importlib.util.find_spec("reverie.kernels") is None, reason="there are no kernels")
Results = dict[str, np.ndarray[Any, Any]]
CASES = [(name, "full") for name in PRESETS]
CASES += [(name, variant) for name in ("atari", "dmc-vision") for variant in VARIANTS if variant != "full"]
ROUNDING = 2.0
"""Largest error of an optimised agent in bfloat16, as a multiple of the plain one's."""
SEEDS = range(3, 10)
"""Rounding may change a draw, and with it all that follows: one of these has to agree."""


@cache
def results(name: str, variant: str, dtype: torch.dtype, is_optimised: bool, seed: int = SEEDS[0]) -> Results:
    """Return the results of two updates and two decisions: metrics, gradients, carried state, actions."""
    config, spec = shrunk(with_variant(preset(name), variant)), spec_of(name)
    agent = Dreamer(config, spec, seed=seed, device=DEVICE, dtype=dtype)
    with torch.no_grad():
        for head in (agent.world_model.rssm.prior_head, agent.world_model.rssm.posterior_head):
            head.weight.mul_(STRONG)
        for number, parameter in enumerate(agent.parameters()):
            if parameter.ndim == 1:  # biases and norms start at 0 and 1, where mistakes do not show
                generator = torch.Generator().manual_seed(number)
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(DEVICE))
    if is_optimised:
        from reverie.kernels import optimize

        agent = optimize(agent)
    found = {}
    agent.agent_steps = 100_000  # within the duration of schedules
    for update in range(2):
        steps = random_steps(spec, (4, 3), seed=update)
        steps["is_first"][2, 1] = True
        metrics = agent.train_step(tensors(steps))
        found |= {f"metrics{update}/{name}": value for name, value in metrics.items()}
    for name in ("model", "actor", "critic"):
        moments = getattr(agent, f"{name}_optimizer").exp_avg
        found |= {f"{name}/{number}": moment for number, moment in enumerate(moments)}
    found |= {f"carry/{name}": value for name, value in agent.carry._asdict().items()}
    state = None
    for mode in ("sample", "mode"):
        observation = tensors(random_steps(spec, (5,), seed=7))
        observation = {key: value.to(DEVICE) for key, value in observation.items() if key != "action"}
        action, state = agent.act(observation, state, mode)
        found |= {f"{mode}/action": action, f"{mode}/stats": state.latent.stats}
    return {name: value.detach().float().cpu().numpy() for name, value in found.items()}


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_optimised_agent_in_float32_computes_the_same(name: str, variant: str) -> None:
    plain, optimised = (results(name, variant, torch.float32, is_optimised) for is_optimised in (False, True))
    assert plain.keys() == optimised.keys()
    for key, value in optimised.items():
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
    failures = []
    for seed in SEEDS:
        exact = joined(results(name, variant, torch.float32, False, seed))
        agents = [joined(results(name, variant, torch.bfloat16, is_optimised, seed)) for is_optimised in (False, True)]
        for kind, value in exact.items():
            plain, optimised = (np.linalg.norm(found[kind] - value) / np.linalg.norm(value) for found in agents)
            if optimised > ROUNDING * plain + 0.01 or plain > 0.5:
                failures.append((seed, kind, plain, optimised))
                break
        else:
            return
    raise AssertionError(failures)

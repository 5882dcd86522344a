"""Compare what agents with and without kernels compute: one JSON line for each comparison.

Each is between two agents that learn from the same batches with the same seed. `difference` is that of trained weights,
||a - b|| / ||a - start||, relative to how far learning has moved them. Adam divides gradients by their size, so that
rounding grows: what has to agree within rounding alone is the first update's losses and gradient norms (`metrics`, the
largest relative difference). `exact` is true where all is equal to the last bit. `kernels` are the classes of
`reverie.kernels` that the second agent is made of.
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.acting import to_tensors
from reverie.agents import build_agent, load_agent, save_agent
from reverie.config import Config, preset
from reverie.devices import resolve_device, resolve_dtype
from reverie.dreamer import Dreamer
from reverie.specs import ActionSpec, ArraySpec, EnvSpec

SPEC = EnvSpec({"image": ArraySpec((64, 64, 1), "uint8")}, ActionSpec("discrete", (18,)))
UPDATES = 8
"""Enough for the three without a graph, and some with it."""

# Largest relative difference of a loss or norm in the first update, and of the weights after all of them.
SAME_KERNELS = {"metrics": 1e-6, "difference": 1e-2}
FUSED = {"metrics": 1e-3, "difference": 0.2}
FUSED_BF16 = {"metrics": 5e-2, "difference": 1.0}
HALF = {"metrics": 5e-2, "difference": 1.5}
OTHER_DEVICE = {"metrics": 1e-3, "difference": 0.2}

LOSSES = ("model/loss", "model/image_loss", "model/reward_loss", "model/discount_loss", "model/gradient_norm")
LOSSES += ("critic/loss", "critic/gradient_norm")

Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    # The paths are compared, not the convolutions' faster and coarser float32.
    torch.backends.cudnn.allow_tf32 = False
    for name, compare in comparisons(options.device, options.tiny):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                row = compare()
            except Exception as error:
                row = {"passed": False, "error": f"{type(error).__name__}: {error}"[:800]}
        row["warnings"] = sorted({str(one.message)[:300] for one in caught})
        print(json.dumps({"path": name, **row}), flush=True)
    return 0


def comparisons(device: str, tiny: bool) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Yield names and comparisons, the most important ones first."""
    base = preset("debug" if tiny else "atari").override(device=device)
    if tiny:
        base = base.override(**{"replay.batch_size": 2, "replay.batch_length": 4})

    def settings(precision: str = "fp32", cuda_graphs: bool = False, compile: str = "off", **more: Any) -> Config:
        return base.override(precision=precision, cuda_graphs=cuda_graphs, compile=compile, **more)

    small = {"replay.batch_size": 2, "replay.batch_length": 8}
    yield (
        "all kernels, bf16",
        lambda: compare(plain(settings("bf16")), fast(settings("bf16", True, "auto")), FUSED_BF16),
    )
    yield "all kernels, float32", lambda: compare(plain(settings()), fast(settings("fp32", True, "auto")), FUSED)
    yield "graph, bf16", lambda: compare(fast(settings("bf16")), fast(settings("bf16", True)), SAME_KERNELS)
    yield "graph, float32", lambda: compare(fast(settings()), fast(settings(cuda_graphs=True)), SAME_KERNELS)
    yield "compiled, float32", lambda: compare(fast(settings()), fast(settings(compile="auto")), FUSED)
    yield "bf16 and float32", lambda: compare(plain(settings()), plain(settings("bf16")), HALF)
    yield "restored", lambda: restored(settings("bf16", True))
    yield "the same again", lambda: compare(fast(settings("bf16", True)), fast(settings("bf16", True)), SAME_KERNELS)
    yield (
        "device and CPU",
        lambda: compare(
            plain(settings(device="cpu", **small)), plain(settings(**small)), OTHER_DEVICE, sample=False, updates=2
        ),
    )


def plain(config: Config) -> Dreamer:
    """Return an agent without kernels."""
    device = resolve_device(config.training.device)
    return Dreamer(config, SPEC, seed=0, device=device, dtype=resolve_dtype(device, config.training.precision))


def fast(config: Config) -> Dreamer:
    """Return an agent with the kernels that `reverie train` uses."""
    return build_agent(config, SPEC, seed=0)


def batches(config: Config, count: int) -> list[dict[str, np.ndarray]]:
    """Return random batches; every second one continues the sequences of the one before."""
    rng = np.random.default_rng(0)
    shape = (config.replay.batch_length, config.replay.batch_size)
    result = []
    for number in range(count):
        is_first = rng.random(shape) < 0.02
        is_first[0] = number % 2 == 0
        terminal = rng.random(shape) < 0.01
        result.append({
            "image": rng.integers(0, 256, (*shape, 64, 64, 1), np.uint8),
            "action": np.eye(18, dtype=np.float32)[rng.integers(18, size=shape)],
            "reward": rng.normal(size=shape).astype(np.float32),
            "is_first": is_first,
            "is_last": terminal,
            "is_terminal": terminal,
        })  # fmt: skip
    return result


def learn(agent: Dreamer, data: list[dict[str, np.ndarray]], sample: bool = True) -> list[dict[str, Tensor]]:
    metrics = []
    for batch in data:
        agent.agent_steps += 16
        metrics.append(agent.train_step(to_tensors(batch, agent.device), sample=sample))
    return metrics


def weights(agent: Dreamer) -> Tensor:
    """Return the trained weights; the target critic's first update moves it further than learning moves all others."""
    trained = [parameter for parameter in agent.parameters() if parameter.requires_grad]
    return torch.cat([parameter.detach().cpu().double().flatten() for parameter in trained])


def compare(one: Dreamer, other: Dreamer, limits: dict[str, float], sample: bool = True, updates: int = UPDATES) -> Row:
    """Compare two agents of the same weights that learn from the same batches."""
    start = weights(one)
    assert torch.equal(start, weights(other))
    data = batches(one.config, updates)
    expected, actual = learn(one, data, sample), learn(other, data, sample)
    return verdict(one, other, start, expected, actual, limits) | {"tolerance": limits}


def verdict(
    one: Dreamer,
    other: Dreamer,
    start: Tensor,
    expected: list[dict[str, Tensor]],
    actual: list[dict[str, Tensor]],
    limits: dict[str, float],
) -> Row:
    pairs = [(float(expected[0][name]), float(actual[0][name])) for name in LOSSES]
    metrics = max(abs(a - b) / max(abs(a), 1e-3) for a, b in pairs)
    left, right = weights(one), weights(other)
    difference = float((left - right).norm() / (left - start).norm())
    exact = torch.equal(left, right) and all(
        torch.equal(a[name].cpu(), b[name].cpu()) for a, b in zip(expected, actual, strict=True) for name in a
    )
    passed = metrics <= limits["metrics"] and difference <= limits["difference"]  # false for NaN
    measured = {"passed": passed, "exact": exact, "metrics": metrics, "difference": difference}
    return {**measured, "kernels": kernels_of(other)}


def restored(config: Config) -> Row:
    """Compare an agent with a copy of it that was saved and loaded."""
    one = fast(config)
    start = weights(one)
    learn(one, batches(config, UPDATES))
    with tempfile.TemporaryDirectory() as folder:
        save_agent(one, folder)
        other = load_agent(folder)
    data = batches(config, UPDATES)
    expected, actual = learn(one, data), learn(other, data)
    return verdict(one, other, start, expected, actual, SAME_KERNELS)


def kernels_of(agent: Dreamer) -> list[str]:
    """Return the names of the classes of `reverie.kernels` that an agent is made of."""
    parts = [*agent.modules(), agent.model_optimizer, agent.actor_optimizer, agent.critic_optimizer]
    return sorted({type(part).__name__ for part in parts if type(part).__module__.startswith("reverie.kernels")})


if __name__ == "__main__":
    sys.exit(main())

"""Whether the fast paths compute what the plain ones do: one JSON line for each comparison.

Each is between two agents that learn from the same batches with the same seed. `difference` is that of all weights,
||a - b|| / ||a - start||: relative to how far learning has moved them. Adam divides gradients by their size, so that
rounding grows: what has to agree within rounding alone is the first update's losses and gradient norms (`metrics`, the
largest relative difference). `exact` says whether all is equal to the last bit.
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
from reverie.agent import Dreamer
from torch import Tensor

from reverie.config import Config, preset
from reverie.specs import ActionSpec, ArraySpec, EnvSpec

SPEC = EnvSpec({"image": ArraySpec((64, 64, 1), "uint8")}, ActionSpec("discrete", (18,)))
UPDATES = 8
"""Enough for the three without a graph, and for some with it."""

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
    """Names and comparisons, by worth."""
    base = preset("debug" if tiny else "atari").override(device=device)
    if tiny:
        base = base.override(**{"replay.batch_size": 2, "replay.batch_length": 4})

    def settings(precision: str = "fp32", cuda_graphs: bool = False, compile: str = "off", **more: Any) -> Config:
        return base.override(precision=precision, cuda_graphs=cuda_graphs, compile=compile, **more)

    small = {"replay.batch_size": 2, "replay.batch_length": 8}
    yield "graph, bf16", lambda: compare(settings("bf16"), settings("bf16", True), SAME_KERNELS)
    yield "graph and compiled, bf16", lambda: compare(settings("bf16"), settings("bf16", True, "auto"), FUSED_BF16)
    yield "graph, float32", lambda: compare(settings(), settings(cuda_graphs=True), SAME_KERNELS)
    yield "compiled, float32", lambda: compare(settings(), settings(compile="auto"), FUSED)
    yield "bf16 and float32", lambda: compare(settings(), settings("bf16"), HALF)
    yield "restored", lambda: restored(settings("bf16", True))
    yield "the same again", lambda: compare(settings("bf16", True), settings("bf16", True), SAME_KERNELS)
    yield (
        "device and CPU",
        lambda: compare(settings(device="cpu", **small), settings(**small), OTHER_DEVICE, sample=False, updates=2),
    )


def batches(config: Config, count: int) -> list[dict[str, np.ndarray]]:
    """Random sequences; what the carried state is good for shows in every second batch."""
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
        metrics.append(agent.train_step(batch, sample=sample))
    return metrics


def weights(agent: Dreamer) -> Tensor:
    return torch.cat([parameter.detach().cpu().double().flatten() for parameter in agent.parameters()])


def compare(plain: Config, fast: Config, limits: dict[str, float], sample: bool = True, updates: int = UPDATES) -> Row:
    """Two agents of these settings, with the same weights and batches."""
    one, other = Dreamer(plain, SPEC, seed=0), Dreamer(fast, SPEC, seed=0)
    start = weights(one)
    assert torch.equal(start, weights(other))
    data = batches(plain, updates)
    expected, actual = learn(one, data, sample), learn(other, data, sample)
    return verdict(one, other, start, expected, actual, limits) | {
        "graph": recorded(other),
        "compiled": other.compiles,
        "tolerance": limits,
    }


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
    # What is not a number fails every comparison.
    passed = metrics <= limits["metrics"] and difference <= limits["difference"]
    return {"passed": passed, "exact": exact, "metrics": metrics, "difference": difference}


def restored(config: Config) -> Row:
    """An agent that was saved and loaded goes on as the other one does."""
    one = Dreamer(config, SPEC, seed=0)
    start = weights(one)
    learn(one, batches(config, UPDATES))
    with tempfile.TemporaryDirectory() as folder:
        one.save(folder)
        other = Dreamer.load(folder)
    data = batches(config, UPDATES)
    expected, actual = learn(one, data), learn(other, data)
    return verdict(one, other, start, expected, actual, SAME_KERNELS) | {"graph": recorded(other)}


def recorded(agent: Dreamer) -> bool:
    return agent._graph is not None and agent._graph.recorded


if __name__ == "__main__":
    sys.exit(main())

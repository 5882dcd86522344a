"""The image networks' convolutions and their gradients in bfloat16: our loops against oneDNN, layer by layer.

    python benchmarks/convolutions.py --depth 48 --threads 2 > results/convolutions.jsonl

prints one JSON line a layer, and the sum of all: milliseconds for 800 images (16x50), each the median of rounds in
which the two take turns, and GFLOP/s. Bias and ELU are part of the forward pass.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.conditions import machine  # noqa: E402
from reverie.kernels import strided, strided_bf16, tune_malloc  # noqa: E402

ROUNDS = 7


class Layer(NamedTuple):
    """A convolution, or the transposed convolution in the other direction."""

    name: str
    transposed: bool
    wide: int
    """Channels of the larger image."""
    narrow: int
    """Channels of the smaller image."""
    kernel: int
    size: int
    """Pixels of the larger image, each way."""


def layers(depth: int) -> list[Layer]:
    """Of 64x64 images in grey, but for those that see or make a single pixel."""
    return [
        Layer("encoder 1", False, 1, depth, 4, 64),
        Layer("encoder 2", False, depth, 2 * depth, 4, 31),
        Layer("encoder 3", False, 2 * depth, 4 * depth, 4, 14),
        Layer("decoder 2", True, 2 * depth, 4 * depth, 5, 13),
        Layer("decoder 3", True, depth, 2 * depth, 6, 30),
        Layer("decoder 4", True, 1, depth, 6, 64),
    ]


def parts(layer: Layer, images: int) -> dict[str, Callable[[], Tensor]]:
    """What an update does with a layer."""
    pixels = (layer.size - layer.kernel) // 2 + 1
    large = torch.randn(images, layer.size, layer.size, layer.wide).bfloat16()
    small = torch.randn(images, pixels, pixels, layer.narrow).bfloat16()
    weight = torch.nn.Parameter(0.1 * torch.randn(layer.narrow, layer.wide, layer.kernel, layer.kernel))
    bias = torch.randn(layer.wide if layer.transposed else layer.narrow)
    image, grad = (small, large) if layer.transposed else (large, small)

    def forward() -> Tensor:
        if layer.wide == 1 and layer.transposed:
            return strided.convolve_to_few(image, weight, bias)
        return strided.convolve_elu(image, weight, bias, layer.transposed)

    gradients: dict[str, Callable[[], Tensor]] = {
        "image_gradient": lambda: strided.image_gradient(grad, image, weight, layer.transposed),
        "kernel_gradient": lambda: strided.kernel_gradient(grad, image, weight, layer.transposed),
    }
    if layer.name == "encoder 1":  # observations have no gradient
        del gradients["image_gradient"]
    return {"forward": forward, **gradients}


def _milliseconds(function: Callable[[], Tensor], ours: bool) -> float:
    available = strided_bf16.available if ours else lambda _: False
    with mock.patch.object(strided_bf16, "available", available):
        start = time.perf_counter()
        function()
        return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=48, help="48 in the preset atari, 16 in atari-small")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    tune_malloc()
    torch.set_num_threads(options.threads)
    shared = {"precision": "bf16", **vars(options), **machine()}
    total = {"ours": 0.0, "onednn": 0.0}
    for layer in layers(options.depth):
        pixels = (layer.size - layer.kernel) // 2 + 1
        gflop = 2e-9 * options.images * pixels**2 * layer.kernel**2 * layer.wide * layer.narrow
        for part, function in parts(layer, options.images).items():
            times: dict[str, list[float]] = {name: [] for name in total}
            with torch.no_grad():
                for _ in range(ROUNDS + 1):
                    for name, taken in times.items():
                        taken.append(_milliseconds(function, name == "ours"))
            row: dict[str, float] = {}
            for name, taken in times.items():
                row[f"{name}_ms"] = round(median(taken[1:]), 2)
                row[f"{name}_gflops"] = round(1000 * gflop / median(taken[1:]))
                total[name] += median(taken[1:])
            print(json.dumps({"layer": layer.name, "part": part, **row, **shared}), flush=True)
    print(json.dumps({"layer": "all", **{f"{name}_ms": round(ms, 1) for name, ms in total.items()}, **shared}))


if __name__ == "__main__":
    main()

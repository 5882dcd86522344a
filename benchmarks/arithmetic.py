"""The arithmetic of an update by formula: multiplications and additions of matrix products and convolutions.

    python benchmarks/arithmetic.py --preset atari --batch 16 --length 50

prints GFLOP by part: `dense` counts every product in full; `sparse` leaves out what the CPU kernels leave out, the
products with one-hot vectors that need no gradient, which are sums of rows there.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from reverie.bench.examples import example_spec  # noqa: E402
from reverie.config import (  # noqa: E402
    Config,
    MLPConfig,
    preset,
)
from reverie.dreamer.encoder_decoder import DECODER_KERNELS, ENCODER_KERNELS  # noqa: E402

PRODUCT = 2
"""Operations for each weight and row: forward; the gradients of inputs and weights cost as much again, each."""


def count(config: Config, channels: int, actions: int) -> dict[str, dict[str, float]]:
    """GFLOP of one update on images with discrete actions, by part, as `dense` and `sparse`."""
    model, behavior = config.world_model, config.behavior
    rssm, rows = model.rssm, config.replay.batch_size * config.replay.batch_length
    one_hot, deter, hidden = rssm.stoch * rssm.classes, rssm.deter, rssm.hidden
    horizon = behavior.horizon

    encoder, decoder, embed = _images(config, channels, one_hot + deter)
    recurrence = (hidden + deter) * 3 * deter
    posterior = (deter + embed) * hidden + hidden * one_hot
    prior = deter * hidden + hidden * one_hot
    heads = [model.reward_head, model.discount_head] if model.predict_discount else [model.reward_head]

    def mlp(config: MLPConfig, outputs: int, features: int) -> int:
        sizes = [features] + [config.units] * config.layers + [outputs]
        return sum(a * b for a, b in itertools.pairwise(sizes))

    def parts(one_hot_read: int) -> dict[str, float]:
        """`one_hot_read`: width of one-hot vectors in products that need no gradient for them."""
        features = one_hot_read + deter
        transition = (one_hot_read + (actions if one_hot_read else 0)) * hidden + recurrence + prior
        learn_heads = sum(mlp(head, 1, one_hot + deter) for head in heads)
        read_heads = sum(mlp(head, 1, features) for head in heads)
        actor, critic = mlp(behavior.actor, actions, features), mlp(behavior.critic, 1, features)
        first_actor, first_critic = features * behavior.actor.units, features * behavior.critic.units
        # The inputs of the first layers of actor and critic need no gradient.
        learn_actor = (horizon - 1) * (3 * actor - first_actor)
        learn_critic = horizon * (3 * critic - first_critic)
        # Filtering: forward with one-hot inputs, and gradients for them, dense in any case, and for the weights.
        filtering = 3 * (recurrence + posterior) + hidden * (2 * one_hot_read + one_hot + 2 * actions)
        return {
            "encoder": 3 * encoder[0] - encoder[1],
            "decoder": 3 * decoder,
            "filtering": rows * filtering,
            "prior": rows * 3 * prior,
            "heads of the model": rows * 3 * learn_heads,
            "imagination": rows * horizon * (transition + actor),
            "reward, discount, target": rows * (horizon + 1) * (read_heads + critic),
            "actor": rows * learn_actor,
            "critic": rows * learn_critic,
        }

    result = {}
    for name, read in (("dense", one_hot), ("sparse", 0)):
        gflop = {part: PRODUCT * weights / 1e9 for part, weights in parts(read).items()}
        result[name] = {**gflop, "all": sum(gflop.values())}
    return result


def _images(config: Config, channels: int, features: int) -> tuple[tuple[int, int], int, int]:
    """Multiplications forward of the encoder (and of its first layer), of the decoder, and the embedding's size."""
    rows = config.replay.batch_size * config.replay.batch_length
    depth, size, encoder, first, inputs = config.world_model.encoder.cnn_depth, 64, 0, 0, channels
    for layer, kernel in enumerate(ENCODER_KERNELS):
        size, outputs = (size - kernel) // 2 + 1, depth * 2**layer
        encoder += rows * size**2 * outputs * inputs * kernel**2
        first = first or encoder
        inputs = outputs
    embed = inputs * size**2
    depth, size = config.world_model.decoder.cnn_depth, 1
    widths = [32 * depth, 4 * depth, 2 * depth, depth, channels]
    decoder = rows * features * widths[0]
    for inputs, outputs, kernel in zip(widths[:-1], widths[1:], DECODER_KERNELS, strict=True):
        decoder += rows * size**2 * inputs * outputs * kernel**2
        size = 2 * (size - 1) + kernel
    return (encoder, first), decoder, embed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="atari")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=50)
    options = parser.parse_args()
    settings = {"replay.batch_size": options.batch, "replay.batch_length": options.length}
    spec = example_spec(options.preset)
    counted = count(preset(options.preset).override(**settings), spec.observations["image"].shape[-1], spec.action.size)
    rounded = {name: {part: round(value, 2) for part, value in parts.items()} for name, parts in counted.items()}
    print(json.dumps({"preset": options.preset, "batch": options.batch, "length": options.length, **rounded}))


if __name__ == "__main__":
    main()

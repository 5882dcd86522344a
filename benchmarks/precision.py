"""Error of advantages and of the actor's gradient in bf16, with output layers in bfloat16 and in float32.

    python benchmarks/precision.py --preset atari-laptop --out results/precision.jsonl

Imagines rollouts once in bf16, and computes values, returns and the actor's loss on these rollouts in float32 (the
reference) and in bf16, with the last layers of critic, target critic, reward and discount heads in either precision.
Output biases set values near V, discounts near gamma and rewards near (1 - gamma) V, so that values agree with returns;
other weights are untrained, and give advantages their spread. Updates are timed in alternating order in one process.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conditions import machine
from torch import Tensor, nn

from reverie.acting import to_tensors
from reverie.agents import build_agent
from reverie.bench.examples import example_spec, random_batch
from reverie.config import preset
from reverie.dreamer import Dreamer
from reverie.dreamer.actor_critic import actor_loss, lambda_return
from reverie.dreamer.imagination import Trajectory, make_trajectory
from reverie.dreamer.layers import OutputLinear

VALUES = (0.0, 8.0, 32.0, 64.0)
FLOAT32_FORWARD = OutputLinear.forward


@contextmanager
def outputs_in(name: str) -> Iterator[None]:
    """Compute output layers in this precision: `fp32`, as the package does, or `bf16`."""
    OutputLinear.forward = nn.Linear.forward if name == "bf16" else FLOAT32_FORWARD  # type: ignore[assignment]
    try:
        yield
    finally:
        OutputLinear.forward = FLOAT32_FORWARD  # type: ignore[method-assign]


def evaluate(agent: Dreamer, trajectory: Trajectory, bf16: bool) -> tuple[Tensor, Tensor]:
    """Return the advantages [H-1, N] and the actor's gradient, flattened, on fixed rollouts."""
    model, actor_critic = agent.world_model, agent.actor_critic
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        with torch.no_grad():
            is_terminal = trajectory.discount[0] == 0
            scored = make_trajectory(model, trajectory.feat, trajectory.action, is_terminal)
            value = actor_critic.target_critic(trajectory.feat)
            return_lambda = actor_critic.config.return_lambda
            target = lambda_return(scored.reward[:-1], value[:-1], scored.discount[:-1], value[-1], return_lambda)
        weights = {"dynamics_weight": 0.0, "reinforce_weight": 1.0, "entropy_weight": 0.0}
        loss, _ = actor_loss(actor_critic.actor, scored, target, value, **weights)
    gradients = torch.autograd.grad(loss, list(actor_critic.actor.parameters()))
    return target[1:] - value[:-2], torch.cat([gradient.flatten() for gradient in gradients])


def errors(agent: Dreamer, trajectory: Trajectory, value: float) -> list[dict[str, Any]]:
    """Compare both precisions of the output layers with float32 throughout, where values are about `value`."""
    actor_critic, model, gamma = agent.actor_critic, agent.world_model, agent.config.world_model.discount
    model.reward_head[-1].bias.data.fill_((1 - gamma) * value)
    model.discount_head[-1].bias.data.fill_(math.log(gamma / (1 - gamma)))
    actor_critic.target_critic.load_state_dict(actor_critic.critic.state_dict())
    actor_critic.target_critic.mlp[-1].bias.data.fill_(value)
    advantage, gradient = evaluate(agent, trajectory, bf16=False)
    rows = []
    for name in ("bf16", "fp32"):
        with outputs_in(name):
            found, found_gradient = evaluate(agent, trajectory, bf16=True)
        flipped = (found.sign() != advantage.sign()).float().mean()
        cosine = nn.functional.cosine_similarity(gradient.double(), found_gradient.double(), 0)
        row = {"value": value, "output_layers": name, "advantage_std": float(advantage.std())}
        row |= {"advantage_error_rms": float((found - advantage).square().mean().sqrt())}
        rows.append(row | {"signs_flipped": float(flipped), "gradient_cosine": float(cosine)})
    return rows


def seconds_ratio(agent: Dreamer, batch: dict[str, Tensor], rounds: int) -> dict[str, Any]:
    """Time updates with both precisions of the output layers in alternating order."""
    seconds: dict[str, list[float]] = {"bf16": [], "fp32": []}
    for number in range(rounds + 2):
        for name in ("bf16", "fp32") if number % 2 else ("fp32", "bf16"):
            with outputs_in(name):
                start = time.perf_counter()
                agent.train_step(batch)
                seconds[name].append(time.perf_counter() - start)
    ratios = np.array(seconds["fp32"][2:]) / np.array(seconds["bf16"][2:])
    return {
        "rounds": rounds,
        "update_seconds_bf16_outputs_median": float(np.median(seconds["bf16"][2:])),
        "update_seconds_fp32_outputs_median": float(np.median(seconds["fp32"][2:])),
        "ratio_median": float(np.median(ratios)),
        "ratio_standard_error": float(ratios.std(ddof=1) / np.sqrt(rounds)),
    }


def main() -> int:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="atari-laptop")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="file that the line is appended to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = preset(options.preset).override(precision="bf16", device="cpu")
    agent = Dreamer(config, example_spec(options.preset), seed=0, dtype=torch.bfloat16)
    batch = to_tensors(random_batch(agent.spec, config.replay.batch_length, config.replay.batch_size), agent.device)
    model, actor_critic = agent.world_model, agent.actor_critic
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), agent.autocast():
        noise = model.rssm.latents.draw_noise(tuple(batch["is_first"].shape), generator)
        start = model.infer(batch, noise=noise).posterior.map(lambda part: part.flatten(0, 1))
        terminal = batch["is_terminal"].flatten()
        drawn = actor_critic.draw_noise(model, len(terminal), generator)
        trajectory = actor_critic.imagine(model, start, terminal, drawn)
    agent.world_model.discount_head[-1].weight.data.mul_(0.1)
    rows = [row for value in VALUES for row in errors(agent, trajectory, value)]
    for row in rows:
        print(json.dumps(row), flush=True)
    timing = seconds_ratio(build_agent(config, agent.spec, seed=0), batch, options.rounds)
    print(json.dumps(timing), flush=True)
    if options.out:
        line = {"preset": options.preset, "errors": rows, "timing": timing, "machine": machine(), "threads": 1}
        with options.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

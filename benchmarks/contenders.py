"""One contender of `peers.py`: a process that builds an agent and, when it is told to, does one train step.

    PYTHON benchmarks/contenders.py sheeprl-bf16 --preset atari-small --threads 2

When it has warmed up it prints one JSON object: trained parameters, threads, versions. Then, for each line of its
standard input, it does one step and prints another: the seconds it took, and the processor seconds of this process.
Between steps it waits for the next line and computes nothing. It ends with its input.

PYTHON needs what the contender is made of: reverie, PyTorch alone (naive), or sheeprl. Every contender learns from the
same random batch. sheeprl's is its function `train`, called as its own training loop calls it, with the target
critic's copy: agent, optimizers, metrics and precision are made by its own functions from its own configuration of an
Atari game, in which only sizes are replaced.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TextIO

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ACTIONS = 18
WARM_UP = 2
"""Steps before the first that counts: they allocate memory and choose kernels."""


class Contender(NamedTuple):
    """A built agent."""

    step: Callable[[], object]
    """One whole update of world model, actor, critic and target critic."""
    parameters: int
    """Trained ones."""
    packages: tuple[str, ...]
    """Whose versions matter."""


def ours(precision: str, options: argparse.Namespace) -> Contender:
    """`Dreamer.train_step` of this checkout."""
    sys.path.insert(0, str(ROOT / "src"))
    from benchmarks.naive import random_batch
    from reverie.agents import build_agent, num_parameters
    from reverie.bench.examples import example_spec
    from reverie.config import preset
    from reverie.kernels import tune_malloc

    tune_malloc()  # as `reverie train` does
    settings = {"precision": precision, "device": "cpu", "threads": options.threads}
    agent = build_agent(preset(options.preset).override(**settings), example_spec(options.preset), seed=0)
    steps = random_batch(options.length, options.batch, ACTIONS)
    batch = steps | {"is_last": steps["is_terminal"]}
    return Contender(lambda: agent.train_step(batch), num_parameters(agent), ("torch", "numpy"))


def naive(precision: str, options: argparse.Namespace) -> Contender:
    """The plain train step of `naive.py`."""
    from benchmarks.naive import PRESETS, Naive, random_batch

    agent, batch = Naive(PRESETS[options.preset]), random_batch(options.length, options.batch, ACTIONS)
    return Contender(lambda: agent.train_step(batch), agent.parameters(), ("torch",))


def sheeprl(precision: str, options: argparse.Namespace, compiled: bool = False) -> Contender:
    """`sheeprl.algos.dreamer_v2.dreamer_v2.train`; `compiled` switches its option algo.compile on."""
    import gymnasium
    import hydra
    import numpy as np
    import torch
    from omegaconf import OmegaConf
    from sheeprl.algos.dreamer_v2.agent import build_agent
    from sheeprl.algos.dreamer_v2.dreamer_v2 import train
    from sheeprl.algos.dreamer_v2.utils import AGGREGATOR_KEYS, build_optimizer
    from sheeprl.utils.utils import dotdict

    from benchmarks.naive import PRESETS, random_batch

    sizes = PRESETS[options.preset]
    settings = {
        "algo.per_rank_batch_size": options.batch,
        "algo.per_rank_sequence_length": options.length,
        "algo.horizon": sizes.horizon,
        "algo.dense_units": sizes.units,
        "algo.mlp_layers": sizes.layers,
        "algo.world_model.encoder.cnn_channels_multiplier": sizes.depth,
        "algo.world_model.stochastic_size": sizes.variables,
        "algo.world_model.discrete_size": sizes.classes,
        "algo.world_model.recurrent_model.recurrent_state_size": sizes.deter,
        "algo.world_model.transition_model.hidden_size": sizes.deter,
        "algo.world_model.representation_model.hidden_size": sizes.deter,
        "algo.compile.enabled": compiled,
        "env.num_envs": 1,
        "fabric.precision": {"fp32": "32-true", "bf16": "bf16-mixed"}[precision],
        "num_threads": options.threads,
    }
    with hydra.initialize_config_module("sheeprl.configs", version_base="1.3"):
        overrides = ["exp=dreamer_v2_ms_pacman", *(f"{name}={value}" for name, value in settings.items())]
        config = hydra.compose("config", overrides)
    cfg = dotdict(OmegaConf.to_container(config, resolve=True))
    # What sheeprl's command line sets before it trains.
    torch.set_float32_matmul_precision(cfg.float32_matmul_precision)
    torch.distributions.Distribution.set_default_validate_args(cfg.distribution.validate_args)
    cfg.metric.aggregator.metrics = {k: v for k, v in cfg.metric.aggregator.metrics.items() if k in AGGREGATOR_KEYS}

    fabric = hydra.utils.instantiate(cfg.fabric, _convert_="all")
    space = gymnasium.spaces.Dict({"rgb": gymnasium.spaces.Box(0, 255, (1, 64, 64), np.uint8)})
    world_model, actor, critic, target_critic, _ = build_agent(fabric, (ACTIONS,), False, cfg, space)
    optimizers = fabric.setup_optimizers(
        build_optimizer(cfg.algo.world_model.optimizer, world_model.parameters()),
        build_optimizer(cfg.algo.actor.optimizer, actor.parameters()),
        build_optimizer(cfg.algo.critic.optimizer, critic.parameters()),
    )
    aggregator = hydra.utils.instantiate(cfg.metric.aggregator, _convert_="all")
    steps = random_batch(options.length, options.batch, ACTIONS)
    batch = {
        "rgb": steps["image"].movedim(-1, -3).float().contiguous(),
        "actions": steps["action"],
        "rewards": torch.tanh(steps["reward"])[..., None],
        "terminated": steps["is_terminal"].float()[..., None],
        "is_first": steps["is_first"].float()[..., None],
    }
    updates = 0

    def step() -> None:
        nonlocal updates
        if updates % cfg.algo.critic.per_rank_target_network_update_freq == 0:
            for source, target in zip(critic.module.parameters(), target_critic.module.parameters(), strict=True):
                target.data.copy_(source.data)
        train(fabric, world_model, actor, critic, target_critic, *optimizers, batch, aggregator, cfg, (ACTIONS,))
        updates += 1

    parameters = sum(p.numel() for module in (world_model, actor, critic) for p in module.parameters())
    return Contender(step, parameters, ("sheeprl", "lightning", "torch", "numpy"))


def sheeprl_compiled(precision: str, options: argparse.Namespace) -> Contender:
    """The same with algo.compile.enabled=True, an option that is off by default."""
    return sheeprl(precision, options, compiled=True)


CONTENDERS: dict[str, Callable[[str, argparse.Namespace], Contender]] = {
    "ours": ours,
    "sheeprl": sheeprl,
    "sheeprl_compiled": sheeprl_compiled,
    "naive": naive,
}


def serve(contender: Contender, threads: int, commands: TextIO, answers: TextIO) -> None:
    """Warm up, say so, and do one step for each line of `commands`."""
    from benchmarks.conditions import versions

    for _ in range(WARM_UP):
        contender.step()
    ready = {"parameters": contender.parameters, "threads": threads, "versions": versions(*contender.packages)}
    print(json.dumps(ready), file=answers, flush=True)
    for _ in commands:
        started, cpu = time.perf_counter(), time.process_time()
        contender.step()
        measured = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps(measured), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="KIND-PRECISION, for example ours-bf16; kinds: " + ", ".join(CONTENDERS))
    parser.add_argument("--preset", default="atari")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    kind, precision = options.name.rsplit("-", 1)
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(options.threads)
    contender = CONTENDERS[kind](precision, options)
    serve(contender, torch.get_num_threads(), sys.stdin, answers)


if __name__ == "__main__":
    main()

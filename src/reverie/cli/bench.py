"""`reverie bench train-step`: measure the time of one update."""

import json
import statistics
import time
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import tyro
from rich.table import Table

from reverie import config_io
from reverie.cli.options import UsageError, console, given, parse, unknown
from reverie.config import Config
from reverie.config_io import nearest
from reverie.presets import preset as named_preset
from reverie.spaces import ActionSpec, Array, ArraySpec, EnvSpec

WARM_UP = 2
"""Steps before measuring: the first ones allocate memory and choose kernels."""

_OF_PRESET = "(default: the preset's)"


@dataclass(frozen=True)
class TrainStep:
    """Measure the time of one update of world model, actor and critic, on random data.

    Every setting may be given as for reverie train, for example --precision bf16, --device cuda or --threads 4.
    """

    preset: str = "atari"
    """Sizes and settings of the agent."""
    batch: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_OF_PRESET)] = None
    """Sequences per update."""
    length: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_OF_PRESET)] = None
    """Steps per sequence."""
    repeats: int = 5
    """Updates that are timed, after two that are not."""
    json: bool = False
    """Print one JSON object on the last line."""


def run(argv: list[str]) -> None:
    """Measure and print."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        raise UsageError("Say what to measure: reverie bench train-step.")
    if argv[0] in ("-h", "--help"):
        argv = ["train-step", *argv]
    if argv[0] != "train-step":
        near = nearest(argv[0], ["train-step"], 1)
        unknown("There is no benchmark", argv[0], near, "; there is train-step.")
    command, settings = parse("bench train-step", TrainStep, argv[1:], _base_for_help)
    if command.repeats < 1:
        raise UsageError(f"--repeats is {command.repeats}, but at least 1 is needed.")
    config = config_io.set_fields(named_preset(command.preset), settings | _overrides(command))
    result = train_step(config, command.preset, command.repeats)
    table = Table(show_header=False)
    for name, value in result.items():
        table.add_row(name, ", ".join(f"{one:.4g}" for one in value) if isinstance(value, list) else _show(value))
    console().print(table)
    if command.json:
        print(json.dumps(result))


def train_step(config: Config, name: str, repeats: int) -> dict[str, Any]:
    """Time `Dreamer.train_step` on one random batch.

    Args:
        config: the agent's settings; batch size, length, precision, device and threads are taken from it.
        name: the preset's; it decides what kind of environment the batch comes from.
        repeats: timed updates.

    Returns:
        `seconds_median` and `seconds_all` per update, and under which conditions they were measured; `parameters`
        are the trained ones.
    """
    import torch

    from reverie.agent import Dreamer

    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    spec = example_spec(name)
    agent = Dreamer(config, spec, seed=0)
    batch = agent.to_tensors(random_batch(spec, config.replay.batch_length, config.replay.batch_size))
    seconds = []
    for _ in range(WARM_UP + repeats):
        start = time.perf_counter()
        agent.train_step(batch)
        if agent.device.type == "cuda":
            torch.cuda.synchronize(agent.device)
        seconds.append(time.perf_counter() - start)
    return {
        "seconds_median": statistics.median(seconds[WARM_UP:]),
        "seconds_all": seconds[WARM_UP:],
        "parameters": agent.parameter_counts()["trained"],
        "preset": name,
        "batch": config.replay.batch_size,
        "length": config.replay.batch_length,
        "precision": config.training.precision,
        "device": torch.cuda.get_device_name(agent.device) if agent.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }


def example_spec(name: str) -> EnvSpec:
    """A typical environment of a preset: Atari with all 18 actions, where nothing else is known."""
    image = {"image": ArraySpec((64, 64, 3), "uint8")}
    known = {
        "crafter": EnvSpec(image, ActionSpec("discrete", (17,))),
        "dmc-vision": EnvSpec(image, ActionSpec("continuous", (6,))),
        "dmc-proprio": EnvSpec({"observation": ArraySpec((24,), "float32")}, ActionSpec("continuous", (6,))),
        "vector": EnvSpec({"observation": ArraySpec((4,), "float32")}, ActionSpec("discrete", (2,))),
    }
    atari = EnvSpec({"image": ArraySpec((64, 64, 1), "uint8")}, ActionSpec("discrete", (18,)))
    return known.get(name.replace("_", "-"), atari)


def random_batch(spec: EnvSpec, length: int, size: int) -> dict[str, Array]:
    """Sequences of random steps [T, B, ...], each of which begins an episode."""
    rng = np.random.default_rng(0)
    lead = (length, size)
    batch: dict[str, Array] = {}
    for key, entry in spec.observations.items():
        shape = (*lead, *entry.shape)
        if entry.dtype == "uint8":
            batch[key] = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            batch[key] = rng.standard_normal(shape, dtype=np.float32)
    if spec.action.kind == "discrete":
        choices = [np.eye(count, dtype=np.float32)[rng.integers(0, count, lead)] for count in spec.action.sizes]
        batch["action"] = np.concatenate(choices, -1)
    else:
        batch["action"] = rng.uniform(-1, 1, (*lead, spec.action.size)).astype(np.float32)
    batch["reward"] = rng.standard_normal(lead, dtype=np.float32)
    batch["is_first"] = np.zeros(lead, bool)
    batch["is_first"][0] = True
    batch["is_terminal"] = rng.random(lead) < 0.01
    batch["is_last"] = batch["is_terminal"].copy()
    return batch


def _overrides(command: TrainStep) -> dict[str, Any]:
    chosen = {
        "replay.batch_size": command.batch,
        "replay.batch_length": command.length,
    }
    return {path: value for path, value in chosen.items() if value is not None}


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _base_for_help(argv: list[str]) -> Config:
    return named_preset(given(argv, "--preset") or "atari")

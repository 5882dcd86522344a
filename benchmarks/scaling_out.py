"""What more processes cost and bring: collectors on Ray, learners on torch.distributed, and a model of both.

    python benchmarks/scaling_out.py --out results/scaling_out.jsonl
    python benchmarks/scaling_out.py --out results/scaling_out.jsonl --parts model --update-seconds 0.03

prints one JSON line a measurement. Collectors are measured without a learner that updates, with an untrained agent:

- messages: bytes of a segment and of published weights, and the seconds that the learner spends on each.
- collectors: agent steps per second in this process, and of 1, 2, 4 collectors with one environment each.
- sleepers: the same with 1 and 16 collectors of an environment that sleeps, which leaves the cores free.
- learners: an update of one process with two threads, and of two with one thread each.
- reductions: seconds that two learners on this machine spend on an update's averages of gradients, by gloo.
- model: steps per second of larger clusters, from the figures above, and of the sleepers as its check.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.distributed as dist
from conditions import machine
from gymnasium import spaces

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from reverie.agents import build_agent  # noqa: E402
from reverie.bench.examples import example_spec  # noqa: E402
from reverie.bench.measuring import seconds_of  # noqa: E402
from reverie.collectors.collector import Collector, Transition  # noqa: E402
from reverie.config import Config, preset  # noqa: E402
from reverie.replay import ReplayBuffer  # noqa: E402
from reverie.scaling.group import Group  # noqa: E402
from reverie.training.make_collector import make_collector  # noqa: E402

LEARNERS = ("vector", "atari-laptop", "atari-small", "atari")
SLEEP = 0.05
SEGMENT = 16


class Sleepy(gymnasium.Env[Any, Any]):
    """Sleeps `SLEEP` seconds at each step; four numbers, two actions, episodes of 200 steps."""

    observation_space = spaces.Box(-1, 1, (4,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        time.sleep(SLEEP)
        self.steps += 1
        return np.zeros(4, np.float32), 0.0, False, self.steps == 200, {}


def config_of(name: str, env: str, collectors: int, num_envs: int = 1, cpus: float = 0.1, **changes: Any) -> Config:
    """The preset with so many collectors on Ray, or none."""
    where = {"collect": "ray", "collectors": collectors} if collectors else {"async_collection": "off"}
    envs = {"env.name": env, "env.num_envs": num_envs, "env.parallel": False}
    ray = {"ray.cpus": cpus, "ray.max_policy_lag": 10**9, "ray.segment_length": SEGMENT}
    return preset(name).for_env(env).override(threads=1, **where, **envs, **ray, **changes)


def steps_per_second(config: Config, factory: Callable[[], Any] | None, repeats: int, rounds: int) -> list[float]:
    """Agent steps per second of all environments, over rounds of whole segments; one more warms up."""
    collector: Collector = make_collector(config, 0, factory)
    agent = build_agent(config, collector.spec, seed=0)
    policy = collector.make_policy(agent)
    is_local = config.training.collect == "local"
    found = []
    try:
        for repeat in range(repeats + 1):
            start, count = time.perf_counter(), 0
            for _ in range(rounds * (SEGMENT if is_local else 1)):
                transitions = collector.step(policy, 10**9) + collector.flush()
                count += sum(each.num_steps for each in transitions)
            if repeat:
                found.append(count / (time.perf_counter() - start))
    finally:
        collector.close()
    return found


def measure_messages(options: argparse.Namespace) -> list[dict[str, Any]]:
    import ray

    rows = []
    for name, env in (("vector", "CartPole-v1"), ("atari-laptop", "ALE/Boxing-v5"), ("atari", "ALE/Boxing-v5")):
        config = config_of(name, env, 1)
        collector: Any = make_collector(config, 0, None)
        agent = build_agent(config, collector.spec, seed=0)
        policy = collector.make_policy(agent)
        seconds: dict[str, list[float]] = {"publish": [], "receive": [], "store": []}
        with ExitStack() as stack:
            stack.callback(collector.close)
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            replay = ReplayBuffer(Path(folder) / "replay.db", collector.spec.step, config.replay, 1)
            stack.callback(replay.close)
            for _ in range(options.repeats + 1):
                agent.updates += 10
                seconds["publish"].append(seconds_of(policy.published))
                collector.step(policy, 10**9)
                ray.wait([*collector._pending])
                transitions: list[Transition] = []
                seconds["receive"].append(seconds_of(lambda: transitions.extend(collector.flush())))  # noqa: B023
                start = time.perf_counter()
                for transition in transitions:
                    for step, mask in transition.steps:
                        replay.add(step, mask, transition.envs)
                seconds["store"].append(time.perf_counter() - start)
        rows.append(
            {"preset": name, "steps": sum(each.num_steps for each in transitions)}
            | {"segment_bytes": len(pickle.dumps(transitions))}
            | {"weights_bytes": sum(tensor.nbytes for tensor in policy.policy.state_dict().values())}
            | {f"{part}_seconds": median(values[1:]) for part, values in seconds.items()}
        )
    return rows


def measure_collectors(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Alternating, so that a machine that slows down for a while slows all."""
    rows = []
    for name, env in (("vector", "CartPole-v1"), ("atari-laptop", "ALE/Boxing-v5")):
        found: dict[int, list[float]] = {0: [], 1: [], 2: [], 4: []}
        for _ in range(options.repeats):
            for collectors, values in found.items():
                values += steps_per_second(config_of(name, env, collectors), None, 1, options.rounds)
        rows += [
            {"preset": name, "env": env, "collectors": number, "steps_per_second": median(values), "all": values}
            for number, values in found.items()
        ]
    return rows


def measure_sleepers(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for schedule in ("fixed", "free"):
        for collectors in (1, 16):
            config = config_of("vector", "Sleepy", collectors, **{"ray.schedule": schedule})
            rounds = 4 if schedule == "fixed" or collectors == 1 else 4 * collectors
            values = steps_per_second(config, Sleepy, options.repeats, rounds)
            rows.append(
                {
                    "schedule": schedule,
                    "collectors": collectors,
                    "steps_per_second": median(values),
                    "all": values,
                    "share_of_sleep": median(values) * SLEEP / collectors,
                }
            )
    return rows


def measure_learners(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Alternating: one process with two threads, two with one each."""
    rows = []
    for name in LEARNERS:
        found: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(options.repeats):
            for learners, values in found.items():
                command = [sys.executable, "-m", "reverie", "bench", "train-step", "--preset", name, "--repeats", "5"]
                command += ["--training.learners", str(learners), "--threads", str(2 // learners), "--json"]
                environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                values.append(json.loads(done.stdout.splitlines()[-1])["seconds_median"])
        ratios = [one / two for one, two in zip(found[1], found[2], strict=True)]
        rows.append(
            {"preset": name, "seconds_1": median(found[1]), "seconds_2": median(found[2]), "efficiency": median(ratios)}
            | {"all_1": found[1], "all_2": found[2], "precision": preset(name).training.precision}
        )
    return rows


def _reduce(rank: int, store: str, sizes: list[int], repeats: int, result: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    group, gradients = Group(), [torch.zeros(size) for size in sizes]
    seconds = [seconds_of(lambda: [group.average([each]) for each in gradients]) for _ in range(repeats + 3)][3:]
    dist.destroy_process_group()
    if rank == 0:
        Path(result).write_text(json.dumps(seconds))


def measure_reductions(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Averages of as many numbers as world model, actor and critic have, without anything else."""
    rows = []
    for name in LEARNERS:
        agent = build_agent(preset(name), example_spec(name))
        parts = (agent.world_model, agent.actor_critic.actor, agent.actor_critic.critic)
        sizes = [sum(weight.numel() for weight in part.parameters()) for part in parts]
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder, "seconds")
            arguments = (str(Path(folder, "store")), sizes, 4 * options.repeats, str(result))
            torch.multiprocessing.spawn(_reduce, arguments, nprocs=2)  # type: ignore[no-untyped-call]
            seconds = json.loads(result.read_text())
        rows.append({"preset": name, "bytes": 4 * sum(sizes), "seconds": median(seconds), "all": seconds})
    return rows


def predicted(
    *, collectors: int, num_envs: int, env_seconds: float, act_seconds: float, segment_overhead: float,
    store_seconds: float, update_seconds: float, steps_per_update: float,
) -> dict[str, Any]:  # fmt: skip
    """Steps per second of a cluster, and what limits them: the slower one of collectors and learner.

    A collector takes N `env_seconds` + `act_seconds` for a step of its N environments, and `segment_overhead` more for
    each segment. The learner takes `update_seconds` for an update, and `store_seconds` for a step that it receives.
    """
    collect = collectors * num_envs / (num_envs * env_seconds + act_seconds + segment_overhead / SEGMENT)
    learn = 1 / (update_seconds / steps_per_update + store_seconds)
    rates = {"collectors": collect, "updates": steps_per_update / update_seconds, "storing": 1 / store_seconds}
    return {"steps_per_second": round(min(collect, learn), 1)} | {name: round(rate) for name, rate in rates.items()}


def measure_model(options: argparse.Namespace) -> list[dict[str, Any]]:
    """From the rows in `--out`: the sleepers as a check, and clusters with an assumed GPU and network."""
    rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    latest = {(row["part"], row.get("preset", row.get("schedule")), row.get("collectors")): row for row in rows}
    message = {name: latest["messages", name, None] for name in ("vector", "atari")}
    local = 1 / latest["collectors", "vector", 0]["steps_per_second"]  # environment and policy
    overhead = SEGMENT * (1 / latest["collectors", "vector", 1]["steps_per_second"] - local)
    sleeping = {"act_seconds": local, "segment_overhead": overhead, "num_envs": 1, "env_seconds": SLEEP}
    sleeping |= {"store_seconds": message["vector"]["receive_seconds"] / SEGMENT, "steps_per_update": 1.0}
    found = []
    for number in (1, 16):
        guess = predicted(collectors=number, update_seconds=1e-9, **sleeping)["steps_per_second"]
        measured = latest["sleepers", "fixed", number]["steps_per_second"]
        found.append({"case": f"{number} sleepers", "predicted": guess, "measured": measured})
    step = 1 / latest["collectors", "atari-laptop", 0]["steps_per_second"]
    store = (message["atari"]["receive_seconds"] + message["atari"]["store_seconds"]) / SEGMENT
    for gpus, collectors in ((1, 16), (8, 100), (64, 1000)):
        # Gradients of all networks, some three times the policy's, there and back.
        reduction = 2 * 3 * message["atari"]["weights_bytes"] / options.bandwidth if gpus > 1 else 0.0
        update = options.update_seconds / gpus + reduction
        cluster = {"collectors": collectors, "num_envs": 8, "env_seconds": step, "act_seconds": step}
        guess = predicted(
            **cluster, segment_overhead=overhead, store_seconds=store, update_seconds=update, steps_per_update=16
        )
        assumed = {"update_seconds": options.update_seconds, "bandwidth": options.bandwidth}
        bytes_per_second = guess["steps_per_second"] * message["atari"]["segment_bytes"] / SEGMENT
        found.append({"case": f"{gpus} GPUs, {collectors} collectors", **guess, **assumed, "bytes": bytes_per_second})
    return found


def main() -> None:
    parts: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
        "messages": measure_messages,
        "collectors": measure_collectors,
        "sleepers": measure_sleepers,
        "learners": measure_learners,
        "reductions": measure_reductions,
        "model": measure_model,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=8, help="segments of each collector in a measurement")
    parser.add_argument("--out", type=Path, default=Path("scaling-out.jsonl"), help="file to which rows are added")
    parser.add_argument("--update-seconds", type=float, default=0.05, help="model: an update of `atari` on one GPU")
    parser.add_argument("--bandwidth", type=float, default=10e9, help="model: bytes per second of a reduction")
    options = parser.parse_args()
    conditions = machine()
    for part in options.parts:
        for row in parts[part](options):
            line = json.dumps({"part": part, **row, **conditions})
            print(line, flush=True)
            with options.out.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()

"""The learning proofs of the test suite over several seeds: whole, with parts of the algorithm cut out, and ablated.

    python benchmarks/learning_proofs.py --cuts nothing actor kl --seeds 1 2 >> results/learning_proofs.jsonl
    python benchmarks/learning_proofs.py --ablate --seeds 1 2 >> results/ablated_proofs.jsonl

prints one JSON line a run: the score, the random score and the optimum. With the actor's loss or the KL term cut out, a
proof must fail. `--ablate` takes the article's full agent, with both actor gradients, and each of its ablations.
`--node-leaves` collects in a Ray cluster of two nodes on this machine, of which one is killed halfway, and counts what
is stored.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import reverie  # noqa: E402
from reverie.config import ABLATIONS, combined  # noqa: E402
from reverie.replay import ReplayReader  # noqa: E402
from reverie.runs.metrics import read_metrics  # noqa: E402
from tests.helpers.environments import Catch, Recall  # noqa: E402
from tests.helpers.learning_proof import CUTS, SETTINGS, learn  # noqa: E402


@contextlib.contextmanager
def two_nodes(folder: Path) -> Iterator[dict[str, Any]]:
    """Settings of a run in `folder` with a collector in each of two nodes, of which one leaves halfway."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    other = cluster.add_node(num_cpus=2)

    class Leave(reverie.Callback):
        def on_step(self, counters: Any, transitions: Any) -> None:
            if counters.steps >= SETTINGS["steps"] // 2 and cluster.worker_nodes:
                cluster.remove_node(other, allow_graceful=False)

    settings = {"ray.address": cluster.address, "ray.segment_length": 4, "env.max_restarts_per_hour": 10}
    try:
        yield {"collect": "ray", "collectors": 2, "callbacks": [Leave()], **settings}
    finally:
        ray.shutdown()
        cluster.shutdown()
    agent = reverie.load(folder)
    with ReplayReader(folder / "replay.db", agent.spec.step) as reader:
        stored = sum(episode.length - 1 for episode in reader.episodes())  # the first step is that of the reset
    assert stored == agent.agent_steps, f"{stored} steps are stored, and {agent.agent_steps} were counted."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", nargs="+", choices=list(CUTS), default=list(CUTS))
    parser.add_argument("--ablate", nargs="*", choices=["full", *ABLATIONS], help="ablations in place of cuts")
    parser.add_argument("--seeds", nargs="+", type=int, default=[SETTINGS["seed"]])
    parser.add_argument("--envs", nargs="+", choices=["Catch", "Recall"], default=["Catch", "Recall"])
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--node-leaves", action="store_true", help="collect on Ray, in two nodes")
    options = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    kind, cuts = "cut", {name: CUTS[name] for name in options.cuts}
    if options.ablate is not None:
        names = options.ablate or ["full", *ABLATIONS]
        kind, cuts = "variant", {name: {**combined("mixed-gradients"), **combined(name)} for name in names}
    for cut, changes in cuts.items():
        for env in (Catch, Recall):
            for seed in options.seeds if env.__name__ in options.envs else []:
                started, cpu = time.monotonic(), time.process_time()
                # The progress of training is not part of the results.
                with tempfile.TemporaryDirectory() as parent, contextlib.redirect_stdout(sys.stderr):
                    folder = Path(parent) / "run"
                    where = two_nodes(folder) if options.node_leaves else contextlib.nullcontext({})
                    with where as collection:
                        run = {"seed": seed, "precision": options.precision, **changes, **collection}
                        outcome = learn(env, folder, **run)
                    restarts = read_metrics(folder)[-1].get("env/restarts", 0)
                row = {
                    "env": env.__name__,
                    kind: cut,
                    "seed": seed,
                    "precision": options.precision,
                    **outcome._asdict(),
                    "commit": commit.strip(),
                }
                row |= {"collectors": 2, "restarts": restarts} if options.node_leaves else {}
                row |= {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - cpu}
                print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()

"""The learning proofs of the test suite over several seeds: whole, with parts of the algorithm cut out, and ablated.

    python benchmarks/learning_proofs.py --cuts nothing actor kl --seeds 1 2 >> results/learning_proofs.jsonl
    python benchmarks/learning_proofs.py --ablate --seeds 1 2 >> results/ablated_proofs.jsonl

prints one JSON line a run: the score, the random score and the optimum. With the actor's loss or the KL term cut out, a
proof must fail. `--ablate` takes the article's full agent, with both actor gradients, and each of its ablations.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from reverie.config import ABLATIONS, combined  # noqa: E402
from tests.helpers.environments import Catch, Recall  # noqa: E402
from tests.helpers.learning_proof import CUTS, SETTINGS, learn  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", nargs="+", choices=list(CUTS), default=list(CUTS))
    parser.add_argument("--ablate", nargs="*", choices=["full", *ABLATIONS], help="ablations in place of cuts")
    parser.add_argument("--seeds", nargs="+", type=int, default=[SETTINGS["seed"]])
    parser.add_argument("--envs", nargs="+", choices=["Catch", "Recall"], default=["Catch", "Recall"])
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
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
                with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
                    outcome = learn(env, Path(folder) / "run", seed=seed, precision=options.precision, **changes)
                row = {
                    "env": env.__name__,
                    kind: cut,
                    "seed": seed,
                    "precision": options.precision,
                    **outcome._asdict(),
                    "commit": commit.strip(),
                }
                row |= {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - cpu}
                print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()

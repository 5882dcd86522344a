"""How time and memory of an update grow with batch, length, horizon and width.

    python benchmarks/scaling.py --preset atari-small > results/scaling.jsonl

prints one JSON line for each point: what was changed, and what `reverie bench train-step` says of it, each in a process
of its own.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDE = ("world_model.rssm.deter", "world_model.rssm.hidden")
POINTS: dict[str, list[tuple[int, list[str]]]] = {
    "batch": [(n, ["--batch", str(n)]) for n in (4, 8, 16, 32)],
    "length": [(n, ["--length", str(n)]) for n in (13, 25, 50, 100)],
    "horizon": [(n, ["--behavior.horizon", str(n)]) for n in (4, 8, 15, 30)],
    "width": [(n, [part for name in WIDE for part in (f"--{name}", str(n))]) for n in (100, 200, 400, 800)],
}
KEEP = ("seconds_median", "seconds_quartiles", "parameters", "precision", "threads", "cpu", "commit")
KEEP += ("peak_resident_mib",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="atari-small")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--axes", nargs="+", choices=list(POINTS), default=list(POINTS))
    parser.add_argument("more", nargs="*", help="further options of reverie bench train-step, after --")
    options = parser.parse_args()
    for axis in options.axes:
        for value, arguments in POINTS[axis]:
            command = [sys.executable, "-m", "reverie.cli.main", "bench", "train-step", "--preset", options.preset]
            command += ["--repeats", str(options.repeats), "--json", *arguments, *options.more]
            environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            result = json.loads(done.stdout.splitlines()[-1])
            row = {"preset": options.preset, "axis": axis, "value": value, **{key: result[key] for key in KEEP}}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

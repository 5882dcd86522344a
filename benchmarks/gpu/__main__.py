"""Correctness, speed and learning on a machine with a GPU, torch, and no network.

    python benchmarks/gpu --out results/gpu-NAME --minutes 8

runs four stages and prints one JSON line for each: `parity` (the comparisons with the reference numbers, computed on
the device), `train-step` (seconds of an update, by preset and precision), `learn` (a real game for the given minutes,
resumed if the run folder exists) and `done`. Small result files go to `--out`: `measurements.jsonl`, `metrics.jsonl`,
the learning curve and the dream.

Packages that the machine lacks travel as wheels: `python benchmarks/gpu/wheels.py DIR` fetches them beforehand, and
`--wheels DIR` installs them into a temporary folder. `--tiny --device cpu` exercises everything in a minute.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STEP_CASES = [("atari", 16), ("atari", 50), ("atari-small", 16)]


def main() -> int:
    options = parse()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": "4", **os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    if options.wheels:
        install(Path(options.wheels), environment)
    results = out / "measurements.jsonl"

    def report(stage: str, **values: Any) -> None:
        row = {"stage": stage, "commit": commit(), "python": platform.python_version(), **values}
        print(json.dumps(row), flush=True)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")

    stages = options.stages.split(",")
    if "parity" in stages:
        report("parity", **parity(options, environment))
    if "train-step" in stages:
        for preset, batch in [("debug", 4)] if options.tiny else STEP_CASES:
            for precision in ("fp32", "bf16"):
                report("train-step", **train_step(options, environment, preset, batch, precision))
    if "learn" in stages:
        report("learn", **learn(options, environment, out))
    report("done")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--stages", default="parity,train-step,learn", help="which of them, separated by commas")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--env", default="ALE/Boxing-v5", help="game of the learning stage")
    parser.add_argument("--preset", default="atari", help="preset of the learning stage")
    parser.add_argument("--run", default="", help="run folder of the learning stage; default: OUT/run")
    parser.add_argument("--minutes", type=float, default=5.0, help="for the learning stage")
    parser.add_argument("--wheels", default="", help="folder of wheels to install first")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the script itself")
    return parser.parse_args()


def install(wheels: Path, environment: dict[str, str]) -> None:
    """Install wheels where they disturb nothing, and let every later stage see them."""
    target = tempfile.mkdtemp(prefix="reverie-wheels-")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target]
    subprocess.run([*pip, *map(str, sorted(wheels.glob("*.whl")))], check=True)
    environment["PYTHONPATH"] += os.pathsep + target


def run(command: list[str], environment: dict[str, str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], env={**environment, **more}, cwd=ROOT, capture_output=True, text=True, check=False
    )


def parity(options: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    select = ["-k", "lambda or every"] if options.tiny else []
    command = ["-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "tests/parity", *select]
    done = run(command, environment, REVERIE_PARITY_DEVICE=options.device, REVERIE_TYPECHECK="0")
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-500:]]
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"device": options.device, "passed": done.returncode == 0, "summary": lines[-1], "failures": failures}


def train_step(
    options: argparse.Namespace, environment: dict[str, str], preset: str, batch: int, precision: str
) -> dict[str, Any]:
    command = ["-m", "reverie.cli.main", "bench", "train-step", "--preset", preset, "--batch", str(batch), "--json"]
    command += ["--precision", precision, "--device", options.device, "--repeats", "2" if options.tiny else "20"]
    done = run(command, environment)
    if done.returncode:
        return {"preset": preset, "precision": precision, "error": done.stderr.strip()[-500:]}
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def learn(options: argparse.Namespace, environment: dict[str, str], out: Path) -> dict[str, Any]:
    """Train until the time is over, then stop as a cluster would: with SIGTERM, which leaves a checkpoint."""
    folder = Path(options.run) if options.run else out / "run"
    preset = "debug" if options.tiny else options.preset
    command = [sys.executable, "-m", "reverie.cli.main", "train", options.env, "--preset", preset]
    command += ["--logdir", str(folder), "--resume", "--device", options.device]
    command += ["--steps", "300"] if options.tiny else []
    started = time.monotonic()
    with (out / "train.log").open("a") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            process.wait(options.minutes * 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
    result: dict[str, Any] = {"env": options.env, "preset": preset, "seconds": round(time.monotonic() - started, 1)}
    result["status"] = process.returncode
    metrics = folder / "metrics.jsonl"
    if metrics.is_file():
        shutil.copy(metrics, out / "metrics.jsonl")
        rows = [json.loads(line) for line in metrics.read_text().splitlines() if line.endswith("}")]
        result["frames"], result["updates"] = rows[-1]["frames"], rows[-1]["updates"]
        result["returns"] = [row["train/return"] for row in rows if "train/return" in row][-10:]
        result["evaluations"] = [[row["frames"], row["eval/return"]] for row in rows if "eval/return" in row]
        result["frames_per_second"] = rows[-1].get("speed/frames_per_second")
        result["updates_per_second"] = rows[-1].get("speed/updates_per_second")
        run(["-m", "reverie.cli.main", "plot", str(folder), "--out", str(out / "curve.png")], environment)
        run(["-m", "reverie.cli.main", "dream", str(folder), "--out", str(out / "dream.png")], environment)
    return result


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())

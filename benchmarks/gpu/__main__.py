"""Correctness, speed and learning on a machine with a GPU, torch, and no network.

    python benchmarks/gpu --out results/gpu-NAME --run /tmp/run --limit 570

runs its stages one after the other, by worth, and prints a JSON line for each result:

- `machine`: what it is, and whether torch finds the GPU
- `paths`: agents with kernels against plain ones (graph, compiled, bf16), the GPU against the CPU, the same run twice
- `train-step`: seconds of an update, by preset, batch and precision; then with single kernels switched off
- `parity`: the comparisons with the reference numbers, computed on the device
- `profile`: kernels, gaps and memory of one update, with and without the graph
- `loop`, `collect`, `replay`: `reverie bench` of that name
- `learn`: a real game for `--minutes`, or for what is left; resumed if the run folder exists
- `done`

A stage that fails or takes too long is reported, and the next one begins. All together end before `--limit` seconds, so
that nothing is lost where a command is killed after a time: `--stages` divides the work among several commands.

`--out` holds few and small files: `measurements.jsonl`, `details.tar.gz` (metrics, curve, dream, profiles, logs) and
the weights in half precision, in pieces of at most 16 MB, from which `python benchmarks/gpu/weights.py join OUT FOLDER`
makes an agent that `reverie eval FOLDER` loads.

Packages that the machine lacks travel as wheels: `python benchmarks/gpu/wheels.py DIR` fetches them beforehand, and
`--wheels DIR` installs them into a temporary folder. `--tiny --device cpu` exercises everything in a few minutes.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import weights

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
STAGES = ("machine", "paths", "train-step", "parity", "profile", "loop", "collect", "replay", "learn")
STEP_CASES = [("atari", 16, "bf16"), ("atari", 50, "bf16"), ("atari-small", 16, "bf16"), ("atari", 16, "fp32")]
SWITCHED_OFF = [("--training.compile", "off"), ("--training.cuda-graphs", "false")]
LOOPS = [("atari", "1"), ("atari", "8"), ("atari-small", "8")]
"""Presets, and environments that are stepped together."""
AFTERWARDS = 60.0
"""Seconds that are kept free after learning, for the curve, the dream and the weights."""

Row = dict[str, Any]


@dataclass
class Session:
    """What all stages share."""

    options: argparse.Namespace
    environment: dict[str, str]
    out: Path
    details: Path
    deadline: float

    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def run(self, command: list[str], limit: float, **more: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments; what lasts longer than `limit`, or than there is time, is killed."""
        started = time.monotonic()
        with subprocess.Popen(
            [sys.executable, *command],
            env={**self.environment, **more},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(timeout=max(1.0, min(limit, self.left())))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, errors = process.communicate()
                errors += f"\nkilled after {time.monotonic() - started:.0f} seconds"
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def json_lines(self, command: list[str], limit: float) -> list[Row]:
        """The JSON objects that a command prints; an `error` if it fails, after those that came before."""
        done = self.run(command, limit)
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not rows:
            rows.append({"error": (done.stderr.strip() or f"exit status {done.returncode}")[-800:]})
        return rows

    def bench(self, what: str, preset: str, *more: str, limit: float = 150) -> Row:
        """The JSON object of a `reverie bench` command."""
        command = ["-m", "reverie.cli.main", "bench", what, "--preset", preset, "--json"]
        rows = self.json_lines([*command, "--device", self.options.device, *more], limit)
        return {"preset": preset, "options": " ".join(more), **rows[-1]}


def main() -> int:
    options = parse()
    started = time.monotonic()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": "4", **os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    if options.wheels:
        install(Path(options.wheels), environment)
    results = out / "measurements.jsonl"
    with tempfile.TemporaryDirectory(prefix="reverie-gpu-") as folder:
        session = Session(options, environment, out, Path(folder), started + options.limit)
        for name in [*options.stages.split(","), "done"]:
            for row in rows_of(name, session):
                row = {"stage": name, "at": round(time.monotonic() - started, 1), "commit": commit(), **row}
                print(json.dumps(row), flush=True)
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            pack(session.details, out / "details.tar.gz")
    return 0


def rows_of(name: str, session: Session) -> Iterator[Row]:
    """Results of a stage, or why there are none."""
    stages: dict[str, Callable[[Session], Iterator[Row]]] = {
        "machine": machine,
        "paths": paths,
        "train-step": train_step,
        "parity": parity,
        "profile": profile,
        "loop": loop,
        "collect": collect,
        "replay": replay,
        "learn": learn,
        "done": lambda session: iter([{}]),
    }
    if name != "done" and session.left() < 15:
        yield {"error": f"no time is left for it; run it alone with --stages {name}"}
        return
    try:
        yield from stages[name](session)
    except Exception as error:
        yield {"error": f"{type(error).__name__}: {error}"}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--stages", default=",".join(STAGES), help="which of them, separated by commas")
    parser.add_argument("--limit", type=float, default=570.0, help="seconds after which everything has ended")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--env", default="ALE/Boxing-v5", help="game of the learning stage")
    parser.add_argument("--preset", default="atari", help="preset of the learning stage")
    parser.add_argument("--run", default="", help="run folder of the learning stage; default: OUT/run")
    parser.add_argument("--minutes", type=float, default=60.0, help="at most, for the learning stage")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the run, as in env.num_envs=8")
    parser.add_argument("--wheels", default="", help="folder of wheels to install first")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the script itself")
    options = parser.parse_args()
    unknown = [name for name in options.stages.split(",") if name not in STAGES]
    if unknown:
        parser.error(f"there is no stage '{unknown[0]}'; there are {', '.join(STAGES)}")
    return options


def install(wheels: Path, environment: dict[str, str]) -> None:
    """Install wheels where they disturb nothing, and let every later stage see them."""
    target = tempfile.mkdtemp(prefix="reverie-wheels-")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target]
    subprocess.run([*pip, *map(str, sorted(wheels.glob("*.whl")))], check=True)
    environment["PYTHONPATH"] += os.pathsep + target


def machine(session: Session) -> Iterator[Row]:
    code = (
        "import json, torch; cuda = torch.cuda.is_available(); print(json.dumps({'torch': torch.__version__, "
        "'cuda': torch.version.cuda, 'device': torch.cuda.get_device_name() if cuda else 'cpu', "
        "'capability': torch.cuda.get_device_capability() if cuda else None}))"
    )
    row = session.json_lines(["-c", code], 120)[-1]
    yield {"python": platform.python_version(), "cores": os.cpu_count(), **row}


def paths(session: Session) -> Iterator[Row]:
    command = [str(HERE / "paths.py"), "--device", session.options.device, *tiny(session)]
    yield from session.json_lines(command, 240)


def train_step(session: Session) -> Iterator[Row]:
    repeats = ["--repeats", "2" if session.options.tiny else "30"]
    cases = [("debug", 4, "fp32"), ("debug", 4, "bf16")] if session.options.tiny else STEP_CASES
    for preset, batch, precision in cases:
        yield session.bench("train-step", preset, "--replay.batch-size", str(batch), "--precision", precision, *repeats)
    preset, batch, precision = cases[0]
    for path in SWITCHED_OFF:
        more = ["--replay.batch-size", str(batch), "--precision", precision, *repeats, *path]
        yield session.bench("train-step", preset, *more)


def parity(session: Session) -> Iterator[Row]:
    select = ["-k", "lambda or every"] if session.options.tiny else []
    command = ["-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "tests/parity", *select]
    device = session.options.device
    done = session.run(command, 180, REVERIE_PARITY_DEVICE=device, REVERIE_TYPECHECK="0")
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-500:]]
    failures = [line[:300] for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield {"device": device, "passed": done.returncode == 0, "summary": lines[-1], "failures": failures}


def profile(session: Session) -> Iterator[Row]:
    command = [str(HERE / "profile_step.py"), "--device", session.options.device, "--out", str(session.details)]
    yield from session.json_lines([*command, *tiny(session)], 150)


def loop(session: Session) -> Iterator[Row]:
    precision = ["--precision", "bf16"]
    if session.options.tiny:
        yield session.bench("loop", "debug", "--env.name", session.options.env, "--updates", "3")
        return
    for preset, envs in LOOPS:
        env = ["--env.name", session.options.env, "--env.num-envs", envs]
        yield session.bench("loop", preset, *env, *precision, "--updates", "200")


def collect(session: Session) -> Iterator[Row]:
    quick = ["--repeats", "1", "--seconds", "0.1"] if session.options.tiny else []
    for envs in ("1", "8"):
        more = ["--env.name", session.options.env, "--env.num-envs", envs, *quick]
        yield session.bench("collect", "debug" if session.options.tiny else "atari", *more)


def replay(session: Session) -> Iterator[Row]:
    small = ["--steps", "1000", "--batches", "3"] if session.options.tiny else []
    yield session.bench("replay", "debug" if session.options.tiny else "atari", *small)


def learn(session: Session) -> Iterator[Row]:
    """Train until the time is over, then stop as a cluster would: with SIGTERM, which leaves a checkpoint."""
    options, out = session.options, session.out
    folder = Path(options.run) if options.run else out / "run"
    preset = "debug" if options.tiny else options.preset
    command = [sys.executable, "-m", "reverie.cli.main", "train", options.env, "--preset", preset]
    command += ["--logdir", str(folder), "--resume", "--device", options.device]
    command += ["--steps", "300"] if options.tiny else ["--precision", "bf16"]
    for setting in options.set:
        path, _, value = setting.partition("=")
        command += [f"--{path.replace('_', '-')}", value]
    seconds = min(options.minutes * 60, session.left() - AFTERWARDS)
    started = time.monotonic()
    log_path = session.details / "train.log"
    with log_path.open("a") as log:
        process = subprocess.Popen(command, env=session.environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            process.wait(max(10.0, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(max(10.0, session.left() - 20))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    result: Row = {"env": options.env, "preset": preset, "seconds": round(time.monotonic() - started, 1)}
    result["status"] = process.returncode
    if process.returncode:
        result["end_of_log"] = log_path.read_text()[-800:]
    yield result | learned(session, folder)


def learned(session: Session, folder: Path) -> Row:
    """What a run has come to; its curve, its dream and its weights are kept."""
    metrics = folder / "metrics.jsonl"
    if not metrics.is_file() or not metrics.read_text().strip():
        return {}
    shutil.copy(metrics, session.details / "metrics.jsonl")
    rows = [json.loads(line) for line in metrics.read_text().splitlines() if line.endswith("}")]
    last = rows[-1]
    result: Row = {name: last[name] for name in ("step", "frames", "updates", "time")}
    result["returns"] = [row["episode/return"] for row in rows if "episode/return" in row][-10:]
    result["evaluations"] = [[row["frames"], row["eval/return"]] for row in rows if "eval/return" in row]
    result |= {name: value for name, value in last.items() if name.startswith(("perf/", "time/"))}
    for what, name in (("plot", "curve.png"), ("dream", "dream.png")):
        session.run(["-m", "reverie.cli.main", what, str(folder), "--out", str(session.details / name)], 60)
    try:
        result["weights"] = weights.split(newest_checkpoint(folder), session.out)
    except Exception as error:
        result["weights"] = f"{type(error).__name__}: {error}"
    return result


def newest_checkpoint(folder: Path) -> Path:
    return max((path for path in (folder / "checkpoints").glob("step-*")), key=lambda path: path.name)


def pack(folder: Path, archive: Path) -> None:
    """Put the files of a folder into one archive; what is in the archive from earlier commands stays."""
    with tempfile.TemporaryDirectory() as temporary:
        merged = Path(temporary)
        if archive.is_file():
            with tarfile.open(archive) as old:
                old.extractall(merged, filter="data")
        shutil.copytree(folder, merged, dirs_exist_ok=True)
        with tarfile.open(archive, "w:gz") as new:
            for path in sorted(merged.iterdir()):
                new.add(path, path.name)


def tiny(session: Session) -> list[str]:
    return ["--tiny"] if session.options.tiny else []


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())

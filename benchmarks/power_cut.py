"""Simulate power cuts at random moments of a run, and check that it continues from what was promised.

    python benchmarks/power_cut.py --cuts 100 --out results/power_cut.jsonl

A small run is killed once and resumed, while a library records everything that it writes and syncs. Then, for each of
so many random moments, its folder is built as a disk could hold it (see `simulated_disk.py`), and must pass:

- `reverie verify` finds nothing wrong, but for rows of metrics after the newest checkpoint, which may be torn;
- `--resume` continues from the last checkpoint whose save had returned, or a later one, and from the beginning if none
  had;
- the run ends with the digest of one that was left alone.

The exit status is 1 if anything of this fails, or if the record does not lead to the folder that the run has left.
"""

import argparse
import ctypes
import filecmp
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from reporting import Report, parser
from simulated_disk import Operation, SimulatedDisk, build_recorder, read_log
from tiny_run import train

from reverie import Callback
from reverie.errors import ReverieError
from reverie.runs.digest import digest
from reverie.runs.verify import verify

PROMISES = "promises"
"""File next to the run folder: a line for each checkpoint whose save has returned."""
STEPS = 600
KILLED_AT = 475
TORN_ROWS = "there are other lines than rows of metrics after those of the newest checkpoint"


class Promises(Callback):
    """Notes each checkpoint; ends the process as a SIGKILL would at a step."""

    def __init__(self, path: Path, last_step: int) -> None:
        self._path, self._last_step = path, last_step

    def on_checkpoint(self, path: Path) -> None:
        with self._path.open("a") as file:
            file.write(f"{path.name}\n")

    def on_step(self, counters, transitions) -> None:
        if counters.steps >= self._last_step:
            ctypes.CDLL(None).end_process()


def settings(interval: float) -> dict[str, float]:
    """Settings that differ from the tiny run's: the write-ahead log is checkpointed often, or hardly ever."""
    return {"steps": STEPS, "checkpoint_every": 100, "replay.fsync_interval": interval}


def record(disk: Path, library: Path, interval: float) -> list[Operation]:
    """Train a run that is killed and resumed, and return what it did."""
    disk.mkdir()
    log = disk.with_name("disk.log")
    environment = {**os.environ, "LD_PRELOAD": str(library), "DISK_LOG_ROOT": str(disk), "DISK_LOG": str(log)}
    for last_step, status in ((KILLED_AT, 9), (STEPS + 1, 0)):
        command = [sys.executable, __file__, "--train", str(disk), "--last-step", str(last_step)]
        command += ["--fsync-interval", str(interval)]
        done = subprocess.run(command, env=environment, check=False)
        if done.returncode != status:
            raise SystemExit(f"the recorded run ended with status {done.returncode}")
    return list(read_log(log))


def is_complete(disk: Path, operations: list[Operation], copy: Path) -> bool:
    """Return whether the operations lead to the folder that is there."""
    simulated = SimulatedDisk(disk, disk.stat().st_ino)
    for operation in operations:
        simulated.apply(operation)
    simulated.materialise(copy)
    names = [
        {str(path.relative_to(root)) for path in root.rglob("*") if not path.name.endswith("-shm")}
        for root in (disk, copy)
    ]
    files = [name for name in names[0] if (disk / name).is_file()]
    different = filecmp.cmpfiles(disk, copy, files, shallow=False)[1:]
    if names[0] != names[1] or any(different):
        print("not recorded:", names[0] ^ names[1], different)
        return False
    return True


def choose(operations: list[Operation], count: int, rng: random.Random) -> list[int]:
    """Return moments: half anywhere, a quarter at syncs and changes of names, a quarter in the beginning."""
    numbers = range(1, len(operations))
    edges = [number for number in numbers if operations[number].kind != "write"]
    first = next(number for number in numbers if operations[number].data.startswith(b"step-"))
    return [rng.choice((numbers, numbers, edges, numbers[: 2 * first])[place % 4]) for place in range(count)]


def examine(run: Path, promised: str | None, expected: dict[str, str], interval: float) -> list[str]:
    """Verify and resume what a power cut has left.

    Returns:
        First from where it continued, then all that went wrong.
    """
    wrong = []
    try:
        found = verify(run).damage if promised else []
        wrong += [f"verify: {each.path} {each.what}" for each in found if not each.what.endswith(TORN_ROWS)]
    except ReverieError as error:
        wrong.append(f"verify: {error}")
    names = {path.name for path in (run / "checkpoints").glob("step-*")}
    if promised and promised not in names and max(names, default="") < promised:
        wrong.append(f"{promised} is lost, there are {sorted(names)}")
    try:
        said = train(run, resume=True, **settings(interval))
    except ReverieError as error:
        return ["refused", *wrong, f"resume: {error}"]
    # Of the checkpoints that a step has, the newest is read; a damaged one would have been named above.
    start = "the beginning"
    if continued := re.search(r"Continuing from step ([\d,]+)", "\n".join(said)):
        step = f"step-{int(continued[1].replace(',', '')):09d}"
        start = max(name for name in names if name.startswith(step))
    if any("nothing was trained" in text for text in said) or (not said and names):
        start = max(names)
    if promised and start < promised:
        wrong.append(f"resume: continued from {start} instead of {promised}")
    content = digest(run)
    wrong += [f"digest: {part} differs" for part in expected if content[part] != expected[part]]
    kind = "the beginning" if start == "the beginning" else "promised" if start == promised else "newer than promised"
    return [kind, *wrong]


def main() -> int:
    """Record, cut, resume."""
    options = arguments()
    torch.set_num_threads(1)
    if options.train:
        promises = Promises(options.train / PROMISES, options.last_step)
        train(options.train / "run", resume=True, callbacks=[promises], **settings(options.fsync_interval))
        return 0
    report, rng = Report(options.out), random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        library, total = build_recorder(base), 0
        for interval in options.intervals:
            folder = base / f"{interval}"
            whole, disk, copy, kept = (folder / name for name in ("whole", "disk", "copy", "kept"))
            train(whole, **settings(interval))
            expected = digest(whole)
            operations = record(disk, library, interval)
            total += len(operations)
            if not is_complete(disk, operations, folder / "complete"):
                failures.append("the record is not complete")
            if digest(disk / "run") != expected:
                failures.append("the recorded run has another digest")
            simulated, promised = SimulatedDisk(disk, disk.stat().st_ino), None
            cuts = choose(operations, -(-options.cuts // len(options.intervals)), rng)
            for number, operation in enumerate(operations):
                for _ in range(cuts.count(number)):
                    shutil.rmtree(copy, ignore_errors=True)
                    simulated.materialise(copy, rng)
                    if rng.random() < 0.5 and (copy / "run" / "replay.db-wal").exists():
                        (copy / "run" / "replay.db-shm").write_bytes(rng.randbytes(32768))
                    shutil.rmtree(kept, ignore_errors=True)
                    shutil.copytree(copy, kept, symlinks=True)
                    start, *wrong = examine(copy / "run", promised, expected, interval)
                    outcomes[start] += 1
                    for each in wrong:
                        failures.append(f"{interval} s, operation {number} ({operation.kind}): {each}")
                        print(failures[-1], flush=True)
                    if wrong and options.keep:
                        shutil.copytree(kept, options.keep / f"{interval}-{number}", symlinks=True, dirs_exist_ok=True)
                simulated.apply(operation)
                if operation.kind == "write" and operation.data.startswith(b"step-"):
                    promised = operation.data.decode().strip()
        row = {
            "cuts": sum(outcomes.values()),
            "seed": options.seed,
            "operations": total,
            "continued_from": dict(outcomes),
            "failures": failures,
        }
        report.write(row, whole)
    return bool(failures)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    result = parser(__doc__)
    result.add_argument("--cuts", type=int, default=100)
    result.add_argument("--seed", type=int, default=0)
    result.add_argument(
        "--intervals",
        type=float,
        nargs="+",
        default=[0.02, 0.0],
        help="replay.fsync_interval, with an equal share of cuts: SQLite's log is checkpointed often, or hardly ever",
    )
    result.add_argument("--keep", type=Path, help="folder for copies of what fails")
    result.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    result.add_argument("--last-step", type=int, help=argparse.SUPPRESS)
    result.add_argument("--fsync-interval", type=float, help=argparse.SUPPRESS)
    return result.parse_args()


if __name__ == "__main__":
    sys.exit(main())

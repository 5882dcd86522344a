"""Train on disks that fill up, then with more space, and check that nothing was lost (Linux, as root).

    python benchmarks/full_disk.py --disks 100 --out results/full_disk.jsonl

Each disk is a file system in memory. At a random step of the run, or before it, another file takes all but a few pages
of it. What must hold on each:

- the run ends with one sentence that names the file and the cause;
- `reverie verify` finds nothing damaged;
- with more space, `--resume` ends with the digest of a run that never lacked any.

The exit status is 1 if anything of this fails.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from reporting import Report, parser
from tiny_run import SETTINGS, train

from reverie import Callback
from reverie.errors import ReverieError
from reverie.runs.digest import digest
from reverie.runs.verify import verify
from reverie.training.counters import Counters

PAGE = 4096
SIZE = 16 << 20
FREE_PAGES = 128
FULL = ("No space left on device", "disk is full")


class FillDisk(Callback):
    """Fills a file system up to some free pages when the run reaches a step."""

    def __init__(self, path: Path, step: int, free_pages: int) -> None:
        self.path, self.step, self.free_pages = path, step, free_pages

    def on_update(self, counters: Counters, metrics: object) -> None:
        """Fill it, once, before the row, the evaluation and the checkpoint that may be due."""
        self.on_step(counters)

    def on_step(self, counters: Counters, transitions: object = None) -> None:
        """Fill it, once."""
        if counters.steps >= self.step:
            self.fill()

    def fill(self) -> None:
        """Leave the free pages and no more."""
        with (self.path / "other").open("ab") as file:
            file.write(bytes(max(0, shutil.disk_usage(self.path).free - self.free_pages * PAGE)))
        self.step = sys.maxsize


@contextmanager
def disk(path: Path) -> Iterator[Path]:
    """Mount an empty file system."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
        path.rmdir()


def examine(folder: Path, filler: FillDisk, expected: dict[str, str]) -> Iterator[str]:
    """Train until the disk is full, add space, resume; yield how the run ended, and then what is wrong."""
    try:
        if not filler.step:
            filler.fill()
        train(folder, callbacks=[filler])
        ended = "with its last step"
    except ReverieError as error:
        ended = type(error).__name__ if any(text in str(error) for text in FULL) else f"wrong: {error}"
    except Exception as error:
        ended = f"wrong: {type(error).__name__}: {error}"
    yield ended
    if (folder / "config.toml").exists():
        yield from (f"damaged: {finding.path} {finding.what}" for finding in verify(folder).damage)
    subprocess.run(["mount", "-o", "remount,size=1g", folder.parent], check=True)
    try:
        train(folder, resume=True)
        if (found := digest(folder)) != expected:
            yield f"another digest: {[part for part in expected if found[part] != expected[part]]}"
    except Exception as error:
        yield f"not resumed: {type(error).__name__}: {error}"


def main() -> int:
    """Fill disks, resume, count."""
    options_parser = parser(__doc__)
    options_parser.add_argument("--disks", type=int, default=100)
    options_parser.add_argument("--seed", type=int, default=0)
    options = options_parser.parse_args()
    if os.geteuid():
        raise SystemExit("Mounting needs root. Nothing was measured. Run this in a container or as root.")
    torch.set_num_threads(1)
    report, rng = Report(options.out), random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary, "whole")
        train(whole)
        expected = digest(whole)
        for number in range(options.disks):
            step = rng.choice((rng.randrange(SETTINGS["steps"]), rng.randrange(0, SETTINGS["steps"] + 1, 50)))
            free = rng.randrange(rng.choice((4, FREE_PAGES)))
            with disk(Path(temporary, f"disk-{number}")) as mounted:
                ended, *wrong = examine(mounted / "run", FillDisk(mounted, step, free), expected)
            outcomes[ended.split(":")[0]] += 1
            for each in [ended] * ended.startswith("wrong") + wrong:
                failures.append(f"{number} (step {step}, {free} pages): {each}")
                print(failures[-1], flush=True)
        row = {"disks": options.disks, "seed": options.seed, "ended": dict(outcomes), "failures": failures}
        report.write(row, whole)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())

"""Ten thousand hostile files: made up under right checksums, and none may crash, hang, or take memory.

    python benchmarks/hostile.py --inputs 1000 --out results/hostile.jsonl

Runs the tests that make them up with so many inputs each: states, manifests and tensors of checkpoints, metrics,
configurations, indices of replays, and runs that are resumed (a tenth as many). See `tests/test_untrusted_files.py`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from reverie.provenance import commit

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/test_untrusted_files.py", "tests/replay/test_untrusted_index.py")
TENTH = "test_runs_that_are_resumed"
FIXED = ("test_it_would_be_noticed", "test_failed_updates_are_checkpoints")


def main() -> int:
    """Run them, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1000, help="of each kind")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="file that one line with the outcome is added to")
    options = parser.parse_args()
    started = time.monotonic()
    program = commit()  # before anybody edits it
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-n", str(options.workers), *TESTS, f"--junitxml={report}"]
        environment = {**os.environ, "HOSTILE_INPUTS": str(options.inputs)}
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        cases = {case.get("name", ""): len(case) == 0 for case in ElementTree.parse(report).iter("testcase")}
    passed = {
        name: options.inputs // 10 if name == TENTH else options.inputs
        for name, good in cases.items()
        if good and name not in FIXED
    }
    row = {
        "inputs": sum(passed.values()),
        "by_test": passed,
        "failed": [name for name, good in cases.items() if not good],
        "seconds": round(time.monotonic() - started, 1),
        "commit": program,
    }
    print(json.dumps(row, indent=2))
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())

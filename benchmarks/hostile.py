"""Make up ten thousand hostile files with valid checksums, none of which may crash a run, hang it, or take memory.

    python benchmarks/hostile.py --inputs 1000 --out results/hostile.jsonl

Runs the tests that make them up with so many inputs each: states, manifests and tensors of checkpoints, metrics,
configurations, SQLite files in place of the replay, and runs that are resumed (a tenth as many). See
`tests/test_untrusted_files.py`.
"""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from reporting import Report, parser

ROOT = Path(__file__).resolve().parents[1]
TESTS = "tests/test_untrusted_files.py"
RESUMED = "that_are_resumed"
"""Part of the names of tests that make up a tenth as many."""
FIXED = ("test_it_would_be_noticed", "test_failed_updates_are_checkpoints")


def main() -> int:
    """Run them, and count."""
    options_parser = parser(__doc__)
    options_parser.add_argument("--inputs", type=int, default=1000, help="of each kind")
    options_parser.add_argument("--workers", type=int, default=2)
    options = options_parser.parse_args()
    outcome = Report(options.out)
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-n", str(options.workers), TESTS, f"--junitxml={report}"]
        environment = {**os.environ, "HOSTILE_INPUTS": str(options.inputs)}
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        cases = {case.get("name", ""): len(case) == 0 for case in ElementTree.parse(report).iter("testcase")}
    passed = {
        name: options.inputs // 10 if RESUMED in name else options.inputs
        for name, good in cases.items()
        if good and name not in FIXED
    }
    row = {
        "inputs": sum(passed.values()),
        "by_test": passed,
        "failed": [name for name, good in cases.items() if not good],
    }
    outcome.write(row)
    return status


if __name__ == "__main__":
    sys.exit(main())

"""Fetch the packages that a GPU machine with torch but without network lacks: `python benchmarks/gpu/wheels.py DIR`.

Versions are those of constraints.txt; names that the machine has already can be left out with --without.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
WITH_TORCH = {
    *("torch", "numpy", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "sympy"),
    "typing-extensions",
}
"""Packages that are installed wherever PyTorch is."""
FOR_TESTS = {
    *("pytest", "iniconfig", "pluggy", "pytest-xdist", "execnet", "hypothesis", "sortedcontainers", "beartype"),
    "six",
}
"""Packages of the stage `parity`; `six` is one of python-dateutil's."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--python", default="3.12", help="version on the other machine")
    parser.add_argument("--without", nargs="*", default=[], help="names to leave out")
    options = parser.parse_args()
    constraints = (ROOT / "constraints.txt").read_text().lower()
    to_run, to_develop = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", part, re.M)) for part in constraints.split("# to develop")
    )
    pins = {name: pin for name, pin in to_run.items() if name not in WITH_TORCH}
    pins |= {name: to_develop[name] for name in sorted(FOR_TESTS)}
    wanted = [f"{name}=={pin}" for name, pin in pins.items() if name not in options.without]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", options.folder]
    command += ["--python-version", options.python, "--implementation", "cp"]
    return subprocess.run([*command, *(f"--platform={name}" for name in PLATFORMS), *wanted], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

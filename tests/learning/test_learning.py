"""Agents learn, from images, what can be learned: nine tenths of a known optimum within minutes.

Catch in the precision that `auto` takes on this processor, and with collectors on Ray where that is installed; Recall
in float32 and in one process; `benchmarks/learning_proofs.py` has the others. Where bf16 is emulated, it takes five
times as long and is nobody's choice.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from reverie.devices import BF16_FLAGS, cpu_flags
from tests.helpers.environments import River

ROOT = Path(__file__).resolve().parents[2]
PRECISION = "fp32" if cpu_flags().isdisjoint(BF16_FLAGS) else "bf16"


def prove(env: str, precision: str, *more: str) -> dict[str, Any]:
    """In a process without the run-time type checks, which are for the tests of the parts, and slow."""
    options = ["--cuts", "nothing", "--envs", env, "--precision", precision, *more]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "learning_proofs.py", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    assert (outcome["env"], outcome["cut"], outcome["precision"]) == (env, "nothing", precision)
    return outcome


@pytest.mark.learning
def test_catch() -> None:
    """Predict where a ball will fall, and be there; halfway a node with a collector leaves the cluster."""
    has_ray = find_spec("ray") is not None
    outcome = prove("Catch", PRECISION, *["--node-leaves"] * has_ray)
    assert outcome.get("restarts", 0) >= has_ray
    assert outcome["score"] >= 0.9 * outcome["best"]


@pytest.mark.learning
def test_recall() -> None:
    """Remember a cue that is no longer visible: an agent without memory scores 0 (see `Recall`)."""
    outcome = prove("Recall", "fp32")
    assert outcome["score"] >= 0.9 * outcome["best"]


@pytest.mark.learning
def test_river() -> None:
    """Explore up to a source that random play does not reach, and learn to go there; without, no reward shows it."""
    options = ["--explore", "plan2explore", "--seeds", "0", "--steps", "3000"]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "exploration.py", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert River.random_success() * outcome["episodes"] < 0.005
    assert outcome["score"] >= 0.9

"""Agents learn, from images, what can be learned: nine tenths of a known optimum within minutes.

Catch in the precision that `auto` takes on this processor, Recall in float32; `benchmarks/learning_proofs.py` has the
others. Where bf16 is emulated, it takes five times as long and is nobody's choice.
"""

from pathlib import Path

import pytest

from reverie.fast.precision import FLAGS, cpu_flags
from tests.environments import Catch, Recall
from tests.learning.proof import learn

PRECISION = "fp32" if cpu_flags().isdisjoint(FLAGS) else "bf16"


@pytest.mark.learning
def test_catch(tmp_path: Path) -> None:
    """Predict where a ball will fall, and be there."""
    outcome = learn(Catch, tmp_path, precision=PRECISION)
    assert outcome.score >= 0.9 * outcome.best


@pytest.mark.learning
def test_recall(tmp_path: Path) -> None:
    """Remember a cue that is no longer visible: an agent without memory scores 0 (see `Recall`)."""
    outcome = learn(Recall, tmp_path, precision="fp32")
    assert outcome.score >= 0.9 * outcome.best

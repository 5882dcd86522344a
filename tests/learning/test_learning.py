"""Agents learn, from images, what can be learned: nine tenths of a known optimum within minutes.

One environment in each precision; `benchmarks/learning_proofs.py` has the others.
"""

from pathlib import Path

import pytest

from tests.environments import Catch, Recall
from tests.learning.proof import learn


@pytest.mark.learning
def test_catch(tmp_path: Path) -> None:
    """Predict where a ball will fall, and be there."""
    outcome = learn(Catch, tmp_path, precision="bf16")
    assert outcome.score >= 0.9 * outcome.best


@pytest.mark.learning
def test_recall(tmp_path: Path) -> None:
    """Remember a cue that is no longer visible: an agent without memory scores 0 (see `Recall`)."""
    outcome = learn(Recall, tmp_path, precision="fp32")
    assert outcome.score >= 0.9 * outcome.best

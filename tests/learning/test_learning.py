"""Agents learn, from images, what can be learned: nine tenths of a known optimum within minutes."""

from pathlib import Path

import pytest

from tests.environments import Catch, Recall
from tests.learning.proof import learn

in_both_precisions = pytest.mark.parametrize("precision", ["fp32", "bf16"])


@pytest.mark.learning
@in_both_precisions
def test_catch(tmp_path: Path, precision: str) -> None:
    """Predict where a ball will fall, and be there."""
    outcome = learn(Catch, tmp_path, precision=precision)
    assert outcome.score >= 0.9 * outcome.best


@pytest.mark.learning
@in_both_precisions
def test_recall(tmp_path: Path, precision: str) -> None:
    """Remember a cue that is no longer visible: an agent without memory scores 0 (see `Recall`)."""
    outcome = learn(Recall, tmp_path, precision=precision)
    assert outcome.score >= 0.9 * outcome.best

"""The tests run with the types and shapes of the package's signatures checked; see conftest.py."""

import os

import pytest
import torch
from jaxtyping import TypeCheckError

from reverie.config import ReplayConfig
from reverie.dreamer.distributions import straight_through

pytestmark = pytest.mark.skipif(os.environ.get("REVERIE_TYPECHECK") == "0", reason="REVERIE_TYPECHECK=0")


def test_type_checks_shapes_that_disagree_are_reported() -> None:
    logits = torch.zeros(3, 4)
    assert straight_through(logits, torch.zeros(3)).shape == (3, 4)
    with pytest.raises(TypeCheckError, match="noise"):
        straight_through(logits, torch.zeros(5))


def test_type_checks_dataclass_field_of_another_type_is_reported() -> None:
    with pytest.raises(TypeCheckError, match="capacity"):
        ReplayConfig(capacity=1e6)  # type: ignore[arg-type]

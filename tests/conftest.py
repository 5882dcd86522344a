"""Set-up of all tests: run-time type checks, one thread per process, the order of the slow tests."""

import os
from itertools import chain, zip_longest

import hypothesis
import pytest
import torch
from jaxtyping import install_import_hook

# Every annotation of the package is checked while the tests run, shapes included. An int passes for a float, as it
# does for mypy. The hook must stand before the package's first import. REVERIE_TYPECHECK=0 switches it off.
if os.environ.get("REVERIE_TYPECHECK", "1") != "0":
    install_import_hook("reverie", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

# pytest-xdist fills the machine with processes; threads on top of them only wait for each other.
torch.set_num_threads(1)

# The same examples in every run, and no time limit on one: a busy machine is not a bug.
hypothesis.settings.register_profile("reverie", deadline=None, derandomize=True)
hypothesis.settings.load_profile("reverie")


@pytest.fixture(autouse=True)
def float32_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that tests compare do not depend on the processor: precision auto is fp32."""
    monkeypatch.setattr("reverie.devices.cpu_flags", frozenset)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the learning tests first, each with a fast one behind it.

    A test process takes its tests in pairs, so every process starts with one slow test instead of one with them all.
    """
    slow = [item for item in items if item.get_closest_marker("learning")]
    fast = [item for item in items if not item.get_closest_marker("learning")]
    pairs = zip_longest(slow, fast[: len(slow)])
    items[:] = [item for item in chain.from_iterable(pairs) if item is not None] + fast[len(slow) :]

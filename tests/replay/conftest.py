"""Set-up of the replay's tests."""

import os

import pytest


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What survives a power cut is not tested here, and a busy disk takes a second for each of many commits."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

"""Set-up of the report's tests: few bootstrap repetitions, coarse figures."""

import pytest

from reverie.analysis import statistics
from reverie.analysis.report import write


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 100)
    monkeypatch.setattr(write, "DPI", 40)

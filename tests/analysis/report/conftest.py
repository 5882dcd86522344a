"""Set-up of the report's tests: few bootstrap repetitions."""

import pytest

from reverie.analysis import statistics


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 100)

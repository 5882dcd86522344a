"""Suggested commands work where they are read."""

import sys
from pathlib import Path

import pytest

from reverie.shell import command_line


def test_command_line_quotes_and_names_the_path_of_own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/reverie", "train"])
    monkeypatch.setenv("PYTHONPATH", "my modules")
    assert command_line("eval", Path("a run"), env="CartPole-v1") == "reverie eval 'a run'"
    assert command_line("eval", "run", env="reach:Reach-v0") == "PYTHONPATH='my modules' reverie eval run"
    monkeypatch.delenv("PYTHONPATH")
    assert command_line("eval", "run", env="reach:Reach-v0") == "reverie eval run"


def test_command_line_as_module_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/env/bin/python3")
    monkeypatch.setattr(sys, "argv", ["/opt/env/lib/reverie/__main__.py", "train"])
    assert command_line("eval", "run", env="reach:Reach-v0") == "python3 -m reverie eval run"
    monkeypatch.setattr(sys, "argv", ["/opt/env/lib/pytest/__main__.py"])
    assert command_line("verify", "run") == "reverie verify run"
